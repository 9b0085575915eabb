"""How close generated pictures are to paintings, how varied and how original."""
