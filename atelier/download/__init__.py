"""What the catalog names, fetched, verified and accounted for."""
