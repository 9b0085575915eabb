"""What a picture is made of, written into it, and painting it again from that."""
