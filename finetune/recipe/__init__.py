"""The recipe: every setting once, checked all at once, before anything heavy is loaded."""
