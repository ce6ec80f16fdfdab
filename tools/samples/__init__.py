"""Makes the sample datasets of this registry from named drawings and checked texts."""
