"""What made a picture, written into the picture, and painting a picture again from that."""
