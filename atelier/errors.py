"""The one exception whose message is written for the person at the keyboard."""


class AtelierError(Exception):
    """What was wrong, where (file, key, line), and what to do; shown without a traceback."""
