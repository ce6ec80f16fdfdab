"""How much of each member is left in a composition, measured on its own held-out records."""
