"""Energy and CO2e: the meter, its source, the grid intensity and the journal."""
