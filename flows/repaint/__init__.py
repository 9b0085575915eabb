"""Parts of a reproduction: reading pictures, painting them again with present or past code, comparing."""
