"""Finding every problem of a dataset before a model loads."""
