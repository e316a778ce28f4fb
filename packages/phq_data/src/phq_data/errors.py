"""The one family of errors that a user can mend; programs catch `PhqError` alone."""


class PhqError(Exception):
    """Something that the user can mend: the message says what was wrong, where, and what to do."""


class ModelError(PhqError, RuntimeError):
    """A network or its file that cannot be used; the message says which and what to do."""


class ReleaseError(PhqError, RuntimeError):
    """A release that cannot be made, read or trusted; the message says why and what to do."""


class ObjectStoreError(PhqError, OSError):
    """A request that an object store did not grant; the message says which and what to do.

    Of what it was about nothing is known: it is neither missing nor damaged.
    """


class ForbiddenError(ObjectStoreError, PermissionError):
    """A request for which the credentials have no rights."""
