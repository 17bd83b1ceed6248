"""What a run will take, told before it starts: time, memory, energy and CO2e, each with a range."""
