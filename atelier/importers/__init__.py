"""Read models that were trained with other programs."""
