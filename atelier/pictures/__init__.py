"""Picture files and sheets of pictures, ours and strangers'. Knows no networks."""
