"""The history: the append-only log, newest first, with what still stands; and its export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from annotator_app.app.client import Service
from annotator_app.app.send import decide

_PAGE = 100
_SEVERAL = 500
_MOST = 200_000


def show(service: Service) -> None:
    """One's own log or, for leads, anybody's."""
    me = service.get("/api/me")
    who = me["name"]
    if me["role"] == "lead":
        people = [row["reviewer"] for row in service.get("/api/stats")["reviewers"]]
        chosen = st.selectbox("Reviewer", ["everybody", *people])
        who = "*" if chosen == "everybody" else chosen
    rows = _rows(service, who, st.session_state.get(f"history {who}", _PAGE))
    if not rows:
        st.info("No decisions yet.")
        return
    frame = _frame(service, rows)
    picked = st.dataframe(
        frame, hide_index=True, width="stretch", height=560, on_select="rerun", selection_mode="multi-row",
        column_config={
            "image": st.column_config.ImageColumn(width="small"),
            "when": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss"),
            "portrait": st.column_config.LinkColumn(display_text=r"portrait=([0-9a-f]{8})"),
            "seconds": st.column_config.NumberColumn(format="%.1f"),
            "stands": st.column_config.CheckboxColumn(help="In force: neither undone nor replaced."),
        },
    )  # fmt: skip
    left, middle, right = st.columns([1, 1, 1])
    if len(rows) % _PAGE == 0 and left.button("Show more", width="stretch"):
        st.session_state[f"history {who}"] = len(rows) + _PAGE
        st.rerun()
    _undo(service, me["name"], [rows[i] for i in picked["selection"]["rows"]], middle)
    right.download_button(
        "Export as CSV", lambda: _frame(service, _rows(service, who, _MOST), links=False)
        .drop(columns="image").to_csv(index=False),
        "decisions.csv", "text/csv", width="stretch", on_click="ignore", help="All decisions of this log.",
    )  # fmt: skip
    st.caption(
        "The log is append-only: an undo is another row. For Parquet and all columns: "
        "`phq review export decisions.parquet --workspace …`"
    )


def _rows(service: Service, who: str, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    before: int | None = None
    while len(rows) < count:
        limit = min(_SEVERAL, count - len(rows))
        answer = service.get("/api/history", limit=limit, before=before, reviewer=who)
        rows += answer["decisions"]
        before = answer["before"]
        if before is None:
            break
    return rows


def _frame(service: Service, rows: list[dict[str, Any]], *, links: bool = True) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "image": row["thumb"], "verdict": row["verdict"], "reason": row["reason"],
                "note": row["note"] or "", "stands": row["stands"], "reviewer": row["reviewer"],
                "when": pd.Timestamp(row["time"]), "seconds": row["seconds"],
                "portrait": service.link(row["portrait_id"]) if links else row["portrait_id"],
                "client": row["client"], "rules": row["rules"],
                "decision": row["decision_id"],
            }
            for row in rows
        ]
    )  # fmt: skip


def _undo(service: Service, name: str, picked: list[Mapping[str, Any]], place: Any) -> None:
    mine = [row for row in picked if row["stands"] and row["reviewer"] == name]
    if not picked:
        return
    if not mine:
        place.caption("Only your own verdicts that stand can be undone.")
    elif place.button(f"Undo {len(mine)}", width="stretch"):
        for row in mine:
            decide(service, row["portrait_id"], "undo", client="history")
        st.toast(f"{len(mine)} undone")
        st.rerun()
