"""lorareg: a versioned registry of LoRA adapters."""

__version__ = "0.1.0"
