"""What kind of model a checkpoint is, told from its configuration and the header of its weights."""
