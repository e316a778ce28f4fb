"""The dashboard: progress, throughput, reasons, agreement, gold items, adjudication."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from annotator_app.app.client import Service, ServiceError
from annotator_app.app.parts import bars, days, link, number, progress_chart, share, tile
from annotator_app.app.send import decide

_KAPPA = (
    (0.8, "very good"),
    (0.6, "good"),
    (0.4, "moderate"),
    (0.2, "weak"),
    (-1.0, "at chance level"),
)
_ENOUGH = 50
"""Portraits judged by two or more from which a kappa is called by a word: with fewer it is luck."""


def show(service: Service) -> None:
    """The state of the review; it looks again every few seconds."""
    me = service.get("/api/me")
    _now(service, me["name"])
    if me["role"] == "lead":
        _agreement(service.get("/api/agreement"))
        _disputes(service)


@st.fragment(run_every=5.0)
def _now(service: Service, name: str) -> None:
    """What changes by itself: the workspace grows, others decide."""
    stats = service.get("/api/stats")
    _numbers(stats, name)
    st.subheader("Progress by yaw bin")
    if stats["total"]["total"]:
        rows = sorted(stats["yaw_bins"], key=lambda row: row["centre"])
        progress_chart(rows, "camera yaw (0°: front)")
    else:
        st.info("No portraits yet.")
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Reasons for rejection")
        if stats["reasons"]:
            bars(stats["reasons"], "rejected", color="#c9761a")
        else:
            st.caption("Nothing rejected yet.")
    with right:
        st.subheader("Decisions by day")
        if stats["days"]:
            days(stats["days"])
        else:
            st.caption("No decisions yet.")
    st.subheader("Reviewers")
    _reviewers(stats["reviewers"])
    if len(stats["sources"]) > 1:
        with st.expander(f"Progress by source ({len(stats['sources'])})"):
            st.dataframe(pd.DataFrame(stats["sources"]), hide_index=True, width="stretch")


def _numbers(stats: Mapping[str, Any], name: str) -> None:
    total = stats["total"]
    decided = total["accepted"] + total["rejected"]
    columns = st.columns(5)
    own = next((row["per_minute"] for row in stats["reviewers"] if row["reviewer"] == name), None)
    for column, (name, value, note) in zip(
        columns,
        [
            ("Portraits", f"{total['total']:,}", None),
            ("Accepted", f"{total['accepted']:,}", share(total["accepted"] / decided) if decided else None),
            ("Rejected", f"{total['rejected']:,}", share(total["rejected"] / decided) if decided else None),
            ("Disputed", f"{total['disputed']:,}", None),
            ("Left for you", f"{stats['remaining']:,}", _time_left(stats["remaining"], own)),
        ],
        strict=True,
    ):
        column.metric(name, value, note, delta_color="off", delta_arrow="off", border=True, height="stretch")


def _time_left(remaining: int, per_minute: float | None) -> str | None:
    """At one's own pace."""
    if not remaining or not per_minute:
        return None
    minutes = remaining / per_minute
    if minutes >= 6000:
        return None
    told = f"{minutes:.0f} min" if minutes < 120 else f"{minutes // 60:.0f} h {minutes % 60:.0f} min"
    return f"about {told} at your {per_minute:.0f} per minute"


def _reviewers(rows: list[Mapping[str, Any]]) -> None:
    if not rows:
        st.caption("No decisions yet.")
        return
    frame = pd.DataFrame(
        [
            {
                "reviewer": row["reviewer"], "decisions": row["decisions"], "per minute": row["per_minute"],
                "median seconds": row["median_seconds"], "90th percentile": row["p90_seconds"],
                "accepts": row["accepts"], "rejects": row["rejects"], "flags": row["flags"],
                "undone": row["undone"], "last decision": pd.Timestamp(row["last"]),
            }
            for row in rows
        ]
    )  # fmt: skip
    config = {
        "per minute": st.column_config.NumberColumn(format="%.1f"),
        "median seconds": st.column_config.NumberColumn(format="%.1f s"),
        "90th percentile": st.column_config.NumberColumn(format="%.1f s"),
        "last decision": st.column_config.DatetimeColumn(format="distance"),
    }
    st.dataframe(frame, hide_index=True, width="stretch", column_config=config)


def _agreement(found: Mapping[str, Any]) -> None:
    st.subheader("Agreement")
    if not found["portraits"]:
        st.caption(
            "No portrait was judged by two people yet. The overlap share of the queue (Settings) is given to "
            "several reviewers."
        )
    else:
        columns = st.columns(3)
        columns[0].metric("Judged by two or more", f"{found['portraits']:,}", border=True, height="stretch")
        columns[1].metric("Observed agreement", share(found["agreed"]), border=True, height="stretch")
        columns[2].metric(
            "Fleiss' kappa", number(found["kappa"]), _interpretation(found["kappa"], found["portraits"]),
            delta_color="off", delta_arrow="off", border=True, height="stretch",
        )  # fmt: skip
        pairs = [
            {
                "pair": f"{pair['first']} and {pair['second']}", "portraits": pair["portraits"],
                "agreed": share(pair["agreed"]), "Cohen's kappa": number(pair["kappa"]),
                "": _interpretation(pair["kappa"], pair["portraits"]),
            }
            for pair in found["pairs"]
        ]  # fmt: skip
        st.dataframe(pd.DataFrame(pairs), hide_index=True, width="stretch")
    if found["gold"]:
        st.subheader("Gold items")
        st.caption("Portraits whose correct verdict is known, mixed into every reviewer's queue.")
        gold = [
            {
                "reviewer": row["reviewer"], "judged": row["judged"],
                "correct": share(row["correct"] / row["judged"]) if row["judged"] else "–",
                "false accepts": row["false_accepts"], "false rejects": row["false_rejects"],
            }
            for row in found["gold"]
        ]  # fmt: skip
        st.dataframe(pd.DataFrame(gold), hide_index=True, width="stretch")


def _interpretation(kappa: float | None, portraits: int) -> str | None:
    if kappa is None:
        return None
    if portraits < _ENOUGH:
        return f"too early to say: {portraits} of {_ENOUGH} portraits"
    return next(text for least, text in _KAPPA if kappa >= least)


def _disputes(service: Service) -> None:
    st.subheader("Adjudication")
    found = service.get("/api/adjudication", limit=24)
    if not found["total"]:
        st.caption("No disputed or flagged portraits.")
        return
    st.caption(f"Disputed or flagged: {found['total']:,}. A lead's decision settles a dispute.")
    reasons = {one["name"]: one["title"] for one in service.get("/api/settings")["reasons"]}
    for start in range(0, len(found["items"]), 4):
        for column, shown in zip(st.columns(4), found["items"][start : start + 4], strict=False):
            with column, st.container(border=True):
                st.html(tile(shown, mesh=True) + link(service, shown["portrait_id"]))
                for vote in shown["votes"]:
                    said = f"{vote['reviewer']}: {vote['verdict']}"
                    st.text(f"{said} ({vote['reason']})" if vote["reason"] else said)
                    if vote["note"]:
                        st.text(f"“{vote['note']}”")
                key = shown["portrait_id"]
                reason = st.selectbox(
                    "Reason of a rejection", [*reasons], _likely(shown["votes"], [*reasons]),
                    format_func=reasons.__getitem__, key=f"reason {key}",
                )  # fmt: skip
                accept, reject = st.columns(2)
                if accept.button("Accept", key=f"accept {key}", width="stretch"):
                    _adjudicate(service, key, "accept", "")
                if reject.button("Reject", key=f"reject {key}", width="stretch"):
                    _adjudicate(service, key, "reject", reason)


def _likely(votes: Sequence[Mapping[str, Any]], reasons: Sequence[str]) -> int:
    """Place of the reason that most who rejected gave."""
    given = [vote["reason"] for vote in votes if vote["reason"] in reasons]
    return reasons.index(max(given, key=given.count)) if given else reasons.index("other")


def _adjudicate(service: Service, portrait_id: str, verdict: str, reason: str) -> None:
    try:
        decide(service, portrait_id, verdict, client="adjudication", reason=reason)
    except ServiceError as problem:
        st.toast(str(problem))
        return
    st.toast(f"Adjudicated: {verdict}, {datetime.datetime.now():%H:%M}")
    st.rerun()
