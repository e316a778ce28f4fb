"""The dashboard: progress, agreement, speed, reasons, known answers, disputes."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from annotator_app.app.client import Service, ServiceError
from annotator_app.app.parts import bars, days, number, pictures_of, progress_chart, share, tile
from annotator_app.app.send import decide

_KAPPA = (
    (0.8, "very good"),
    (0.6, "good"),
    (0.4, "moderate"),
    (0.2, "weak"),
    (-1.0, "hardly better than chance"),
)


def show(service: Service) -> None:
    """Everything that a lead wants to see in the morning."""
    stats = service.get("/api/stats")
    me = service.get("/api/me")
    _numbers(stats)
    st.subheader("Progress by view")
    if stats["total"]["total"]:
        rows = sorted(stats["views"], key=lambda row: row["centre"])
        progress_chart(rows, "yaw of the camera, seen from the person (front: 0°)")
    else:
        st.info("No portraits yet.")
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Why portraits are rejected")
        if stats["reasons"]:
            bars(stats["reasons"], "rejected", color="#c9761a")
        else:
            st.caption("Nothing was rejected yet.")
    with right:
        st.subheader("Decisions by day")
        if stats["days"]:
            days(stats["days"])
        else:
            st.caption("No decisions yet.")
    st.subheader("Reviewers")
    _reviewers(stats["reviewers"])
    if me["role"] == "lead":
        _agreement(service.get("/api/agreement"))
        _disputes(service)
    if len(stats["sources"]) > 1:
        with st.expander(f"Progress by source ({len(stats['sources'])})"):
            st.dataframe(pd.DataFrame(stats["sources"]), hide_index=True, width="stretch")


def _numbers(stats: Mapping[str, Any]) -> None:
    total = stats["total"]
    decided = total["accepted"] + total["rejected"]
    columns = st.columns(5)
    speeds = [row["per_minute"] for row in stats["reviewers"] if row["per_minute"]]
    for column, (name, value, note) in zip(
        columns,
        [
            ("Portraits", f"{total['total']:,}", None),
            ("Accepted", f"{total['accepted']:,}", share(total["accepted"] / decided) if decided else None),
            ("Rejected", f"{total['rejected']:,}", share(total["rejected"] / decided) if decided else None),
            ("Disputed", f"{total['disputed']:,}", None),
            ("Left for you", f"{stats['remaining']:,}", _time_left(stats["remaining"], speeds)),
        ],
        strict=True,
    ):
        column.metric(name, value, note, delta_color="off", delta_arrow="off", border=True, height="stretch")


def _time_left(remaining: int, speeds: list[float]) -> str | None:
    if not remaining or not speeds:
        return None
    hours = remaining / max(speeds) / 60
    return f"about {hours:.1f} h at {max(speeds):.0f} a minute" if hours < 100 else None


def _reviewers(rows: list[Mapping[str, Any]]) -> None:
    if not rows:
        st.caption("Nobody has decided anything yet.")
        return
    frame = pd.DataFrame(
        [
            {
                "reviewer": row["reviewer"], "decisions": row["decisions"], "a minute": row["per_minute"],
                "median seconds": row["median_seconds"], "slowest tenth from": row["p90_seconds"],
                "accepts": row["accepts"], "rejects": row["rejects"], "flags": row["flags"],
                "taken back": row["undone"], "last": pd.Timestamp(row["last"]),
            }
            for row in rows
        ]
    )  # fmt: skip
    config = {
        "a minute": st.column_config.NumberColumn(format="%.1f"),
        "median seconds": st.column_config.NumberColumn(format="%.1f s"),
        "slowest tenth from": st.column_config.NumberColumn(format="%.1f s"),
        "last": st.column_config.DatetimeColumn(format="distance"),
    }
    st.dataframe(frame, hide_index=True, width="stretch", column_config=config)


def _agreement(found: Mapping[str, Any]) -> None:
    st.subheader("Agreement")
    if not found["portraits"]:
        st.caption(
            "No portrait was judged by two people yet. A share of the queue is given to several reviewers "
            "(Settings), so this fills by itself."
        )
    else:
        columns = st.columns(3)
        columns[0].metric("Judged by several", f"{found['portraits']:,}", border=True, height="stretch")
        columns[1].metric("Of the same opinion", share(found["agreed"]), border=True, height="stretch")
        columns[2].metric(
            "Fleiss' kappa", number(found["kappa"]), _words(found["kappa"]), delta_color="off",
            delta_arrow="off", border=True, height="stretch",
        )  # fmt: skip
        pairs = [
            {
                "pair": f"{pair['first']} and {pair['second']}", "portraits": pair["portraits"],
                "agreed": share(pair["agreed"]), "Cohen's kappa": number(pair["kappa"]),
                "": _words(pair["kappa"]),
            }
            for pair in found["pairs"]
        ]  # fmt: skip
        st.dataframe(pd.DataFrame(pairs), hide_index=True, width="stretch")
    if found["known"]:
        st.subheader("Known answers")
        st.caption("Portraits whose answer is known are mixed into everybody's queue.")
        known = [
            {
                "reviewer": row["reviewer"], "asked": row["asked"],
                "right": share(row["right"] / row["asked"]) if row["asked"] else "–",
                "wrongly accepted": row["wrong_accepts"], "wrongly rejected": row["wrong_rejects"],
            }
            for row in found["known"]
        ]  # fmt: skip
        st.dataframe(pd.DataFrame(known), hide_index=True, width="stretch")


def _words(kappa: float | None) -> str | None:
    return None if kappa is None else next(words for least, words in _KAPPA if kappa >= least)


def _disputes(service: Service) -> None:
    st.subheader("Disputes")
    found = service.get("/api/adjudication", limit=24)
    if not found["total"]:
        st.caption("Nothing is disputed or flagged.")
        return
    st.caption(f"Waiting for a ruling: {found['total']:,}. A decision of yours settles a dispute.")
    pictures = pictures_of(service, found["items"], mesh=True)
    for start in range(0, len(found["items"]), 4):
        for column, shown in zip(st.columns(4), found["items"][start : start + 4], strict=False):
            with column, st.container(border=True):
                st.html(tile(shown, pictures))
                for vote in shown["votes"]:
                    said = f"{vote['reviewer']}: {vote['verdict']}"
                    st.text(f"{said} ({vote['reason']})" if vote["reason"] else said)
                    if vote["note"]:
                        st.text(f"“{vote['note']}”")
                accept, reject = st.columns(2)
                key = shown["portrait_id"]
                if accept.button("Accept", key=f"accept {key}", width="stretch"):
                    _rule(service, key, "accept")
                if reject.button("Reject", key=f"reject {key}", width="stretch"):
                    _rule(service, key, "reject")


def _rule(service: Service, portrait_id: str, verdict: str) -> None:
    reason = "other" if verdict == "reject" else ""
    try:
        decide(service, portrait_id, verdict, client="adjudication", reason=reason)
    except ServiceError as problem:
        st.toast(str(problem))
        return
    st.toast(f"Ruled: {verdict}, {datetime.datetime.now():%H:%M}")
    st.rerun()
