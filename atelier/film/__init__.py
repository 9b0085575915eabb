"""Films of walks through latent space, and sheets of pictures."""
