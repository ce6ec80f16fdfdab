"""Captions written by models, and marked as such."""
