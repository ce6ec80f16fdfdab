"""Git, the keeper of truth."""
