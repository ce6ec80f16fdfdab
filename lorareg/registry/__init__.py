"""Names, digests and history: what an asset is and whether it is what it says. Never torch."""
