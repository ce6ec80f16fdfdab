"""Remake the built-in base model `builtin:avatar` from nothing; see README.md for the commands."""
