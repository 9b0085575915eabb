"""Import models that other programs trained."""
