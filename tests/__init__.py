"""A package, so that none of this name that something installed brings along (torch-fidelity does) stands before it."""
