"""Adapters and compositions as other programs take them: files, prompts, requests."""
