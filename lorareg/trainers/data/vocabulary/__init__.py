"""The words that captions of a dataset are made of, and whether they keep to them."""
