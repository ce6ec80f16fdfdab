"""Taking personal data out of dialogues."""
