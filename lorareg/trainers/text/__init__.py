"""What dialogues need: templates, tokens, packing, losses."""
