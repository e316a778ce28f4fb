"""What a release of a workspace would hold if it were made now: nothing is written."""

from __future__ import annotations

import numpy as np

from phq_data.errors import PhqError
from phq_data.pipeline.engine import load_config
from phq_data.release import tombstones
from phq_data.release.select import select
from phq_data.release.shelf import Shelf, taken_down_elsewhere
from phq_data.report.standing import Outlook, Standing
from phq_data.review import decisions
from phq_data.review.consensus import ConsensusRule
from phq_data.workspace import Workspace


def standing(workspace: Workspace) -> Standing:
    """What reviewers came to, and what `phq release build --only-permitted` would make of it."""
    try:
        votes = decisions.current(workspace, write=False)
    except (PhqError, ImportError) as error:  # the review's packages are an extra
        return Standing(problem=str(error))
    outlooks = []
    distance = load_config(workspace).dedup.max_distance
    for reviewed in (True, False):
        try:
            shelf = Shelf(workspace.shown("releases"))
            gone = tombstones.joined([shelf.tombstones(), *taken_down_elsewhere(workspace, shelf)])
            found = select(
                workspace, reviewed=reviewed, rule=ConsensusRule(), tombstones=gone, permissions=(),
                duplicate_distance=distance, only_permitted=True, votes=votes,
            )  # fmt: skip
        except PhqError as error:
            outlooks.append(Outlook(reviewed, problem=str(error)))
        else:
            photos = len(np.unique(found.ties.photo))
            outlooks.append(Outlook(reviewed, len(found.places), photos, found.left_out))
    return Standing({name: one.state for name, one in votes.items()}, tuple(outlooks))
