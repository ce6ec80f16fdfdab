"""Tensors at rest: LoRA factors read, combined and written with numpy. Never torch."""
