"""LoRA layers on frozen models: put on, started from, read back."""
