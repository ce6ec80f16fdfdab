"""Records read from a dataset folder, which is never written to."""
