"""What `finetune doctor` looks at: software, hardware, how energy will be measured, the hub."""
