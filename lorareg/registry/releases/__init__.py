"""Releases and the channels that point to them."""
