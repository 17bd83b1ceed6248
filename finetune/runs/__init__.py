"""Run records: written by training, read by everything light."""
