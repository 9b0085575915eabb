"""Films of walks through latent space, and sheets of its directions."""
