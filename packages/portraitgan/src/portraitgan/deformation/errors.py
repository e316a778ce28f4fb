"""What can be wrong with a rig, a pose or a search."""


class DeformationError(ValueError):
    """A rig, pose or search backend that cannot be used; the message says which and what to do."""
