"""The checkpoint: what kind of transformer it is, and how it is built for a task."""
