"""Training a generator against a discriminator: data on the device, losses, averages, exact resume."""
