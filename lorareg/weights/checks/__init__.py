"""What is checked before adapters are composed: hard reasons to refuse, soft ones to warn."""
