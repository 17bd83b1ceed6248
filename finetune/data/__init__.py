"""The user's data: read, checked, split, tokenised, batched."""
