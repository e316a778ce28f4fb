"""The one family of errors that a user can mend; programs catch `PhqError` alone."""


class PhqError(Exception):
    """Something that the user can mend: the message says what was wrong, where, and what to do."""
