"""Copies of pictures made fit for training; the originals stay as they are."""
