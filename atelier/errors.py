"""The exceptions whose messages are written for the person at the keyboard."""


class AtelierError(Exception):
    """What was wrong, where (file, key, line), and what to do; shown without a traceback."""


class PassingError(AtelierError):
    """A site or a network in trouble that may be over by itself: the same again, later, may succeed."""
