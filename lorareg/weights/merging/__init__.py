"""Ways to put adapters together that are no plain sum, each inside the factors."""
