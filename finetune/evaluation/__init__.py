"""Scores: metrics, intervals, baselines, and the one forward path that makes predictions."""
