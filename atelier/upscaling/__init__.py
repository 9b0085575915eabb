"""Prints: enlarging artworks by a compact network trained on the paintings, by an external network, or by Lanczos."""
