"""Paint pictures of any size from recipes: recipe, latents, pixels."""
