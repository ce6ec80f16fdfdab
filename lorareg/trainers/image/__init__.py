"""What pictures need: families of bases, latents, noise, masks."""
