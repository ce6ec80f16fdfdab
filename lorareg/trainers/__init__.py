"""Tensors in motion: the shared LoRA core and its tasks."""
