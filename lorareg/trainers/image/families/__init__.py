"""Families of text-to-image bases: what is particular to each, one module a family."""
