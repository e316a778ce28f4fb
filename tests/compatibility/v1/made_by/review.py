"""The decisions of the review: two reviewers, all verdicts, an undo, a note and a ruling, at fixed times."""

import sys

from phq_data.review import decisions, items
from phq_data.review.store import NewDecision, Store
from phq_data.workspace import Workspace

START = 1_767_607_200_000  # 2026-01-05 10:00 UTC in milliseconds
Row = tuple[str, int, str, str, str | None, str]

LOG: list[Row] = [  # reviewer, number of the kept portrait, verdict, reason, note, client
    ("Ada L.", 0, "accept", "", None, "page"),
    ("Ada L.", 1, "accept", "", None, "page"),
    ("Ada L.", 2, "reject", "blur", None, "page"),
    ("Ada L.", 2, "undo", "", None, "page"),
    ("Ada L.", 2, "accept", "", "sharp enough, seen again", "page"),
    ("Ada L.", 3, "accept", "", None, "triage"),
    ("Ada L.", 4, "accept", "", None, "page"),
    ("Bo", 0, "accept", "", None, "page"),
    ("Bo", 1, "reject", "shoulders", "left shoulder", "page"),
    ("Bo", 4, "flag", "", "whose hand is that?", "page"),
    ("Ada L.", 1, "accept", "", None, "adjudication"),
    ("Bo", 5, "reject", "other", "=1+1 is no reason", "page"),
]


def main(folder: str) -> None:
    """Record `LOG` in the store of the workspace, one decision every ten seconds."""
    workspace = Workspace.open(folder)
    store = Store.open(workspace)
    items.sync(store, workspace)
    kept = sorted(workspace.kept(["portrait_id"])["portrait_id"].to_pylist())
    for number, (reviewer, portrait, verdict, reason, note, client) in enumerate(LOG):
        now = START + 10_000 * number
        one = NewDecision(
            f"01KE6YV1{number:018d}", kept[portrait], verdict, reason, note, now - 500, 2.5,
            client=client, queue="doubt",
        )  # fmt: skip
        done = store.record([one], reviewer, lead=reviewer == "Ada L.", now=now)
        assert done.saved == (one.decision_id,), done
    decisions.synchronise(workspace, store)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1])
