"""Applies corrected labels as a process of its own: `python -m annotator_app.apply WORKSPACE`.

Beside the service, which starts it, so that nobody's key waits for it. What cannot be done now is one
sentence and exit code 1; the next try, or `phq build`, does it.
"""

from __future__ import annotations

import contextlib
import os
import sys

from phq_data.errors import PhqError


def main() -> None:
    """Make the parts anew that corrections concern, unless a build is at work."""
    from phq_data.pipeline.correct import apply_corrections
    from phq_data.workspace import Workspace

    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)
    try:
        workspace = Workspace.open(sys.argv[1])
        with workspace.lock(wait=False):
            apply_corrections(workspace)
    except (PhqError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
