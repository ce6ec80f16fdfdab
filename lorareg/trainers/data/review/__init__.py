"""A local web page on which a person reviews captions."""
