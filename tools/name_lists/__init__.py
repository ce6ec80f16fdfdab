"""How the list of names was made that redaction recognises."""
