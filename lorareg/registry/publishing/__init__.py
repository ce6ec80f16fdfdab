"""Adapters on the Hugging Face Hub."""
