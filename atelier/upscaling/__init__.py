"""Prints: a compact network learns from the paintings how to enlarge, and enlarges in exact tiles."""
