"""What a checkpoint can do before it is fine-tuned: asked in words, without or with a few solved examples."""
