"""One self-contained HTML page of a comparison, or of a run."""
