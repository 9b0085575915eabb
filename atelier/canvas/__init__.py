"""Latents become pictures of any size: what lies in a canvas, how it is painted, how one walks through it."""
