"""What can be wrong with a workspace, for people."""

from __future__ import annotations

import errno

from phq_data.errors import PhqError


class WorkspaceError(PhqError, RuntimeError):
    """The workspace cannot be used; the message says why and what to do."""


class WorkspaceBusyError(WorkspaceError):
    """Somebody else is working on the workspace."""


def explained(error: OSError, path: str) -> WorkspaceError:
    """What stands against writing `path`, with advice."""
    if error.errno == errno.ENOSPC or error.errno == errno.EDQUOT:
        return WorkspaceError(
            f"the disk is full (writing {path}). Nothing finished is lost: free some space and run the same "
            "command again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return WorkspaceError(
            f"cannot write {path}: {error.strerror}. Choose a workspace that you may write to."
        )
    return WorkspaceError(f"cannot write {path}: {error}")
