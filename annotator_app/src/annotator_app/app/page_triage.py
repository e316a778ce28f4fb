"""Auto-triage: a linear model of the decisions, its measured precision, and batches to accept at a glance."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from annotator_app.app.client import Service
from annotator_app.app.parts import bars, number, sentence, share, tile
from annotator_app.app.send import decide, decide_batch

_COLUMNS = 6


def show(service: Service) -> None:
    """The model, then a batch."""
    st.markdown(
        "A logistic regression on the evidence, fitted to the decisions so far, proposes batches of "
        "portraits whose verdict is nearly certain. It decides nothing: **you** check each batch and can "
        "undo it."
    )
    columns = st.columns([2, 2, 1.5])
    side = columns[0].segmented_control("Propose to", ("accept", "reject"), default="accept") or "accept"
    target = columns[1].slider(
        "Minimum precision", 0.80, 0.995, 0.97, 0.005,
        help="Measured on held-out decisions.",
    )  # fmt: skip
    count = columns[2].selectbox("Batch size", (24, 48, 96), index=1)
    held = _batch(service, side, target, count)
    if not held["ready"]:
        st.info(sentence(held["why"]))
        return
    _quality(held)
    _sheet(service, held, side)
    _undo(service)


def _batch(service: Service, side: str, target: float, count: int) -> dict[str, Any]:
    """The proposed batch; the same one until it is taken or something else is asked for."""
    wanted = (side, target, count)
    if st.session_state.get("triage_wanted") != wanted or "triage" not in st.session_state:
        found = service.get("/api/triage", side=side, count=count, target=target)
        st.session_state.update(triage=found, triage_wanted=wanted, triage_since=time.monotonic())
    found = st.session_state["triage"]
    return dict(found)


def _quality(held: Mapping[str, Any]) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Precision on held-out decisions")
        rows = [
            {
                "side": one["side"], "precision": share(one["precision"]),
                "95 % lower bound": share(one["lower"]), "decisions": one["judged"],
                "coverage": share(one["covered"]), "threshold": number(one["threshold"], 3),
            }
            for one in held["sides"]
        ]  # fmt: skip
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
        st.caption(
            f"Fitted to {held['decisions']:,} decisions, {held['accepts']:,} of them accepts, and measured "
            "on decisions of other photos than it was fitted to."
        )
    with right:
        st.subheader("Weights of the model")
        weights = {one["name"].replace("_", " "): one["weight"] for one in held["weights"]}
        largest = dict(sorted(weights.items(), key=lambda pair: -abs(pair[1]))[:8])
        bars(largest, "towards reject ←   weight   → towards accept")


def _sheet(service: Service, held: Mapping[str, Any], side: str) -> None:
    batch = held["batch"]
    st.subheader(f"Proposed to {side}")
    if not batch:
        st.caption(sentence(held["why"]) if held["why"] else _short_of(held, side))
        return
    st.caption(
        f"Clear the tick of every portrait that you would not {side}, then {side} the others together. "
        f"The number is the model's probability of {side}."
    )
    with st.form("triage_form", border=False):
        chosen: dict[str, bool] = {}
        for start in range(0, len(batch), _COLUMNS):
            for column, shown in zip(st.columns(_COLUMNS), batch[start : start + _COLUMNS], strict=False):
                with column:
                    st.html(tile(shown, mesh=True))
                    key = shown["portrait_id"]
                    chosen[key] = st.checkbox(
                        _percent(shown["probability"]), value=True, key=f"take {key}"
                    )  # fmt: skip
        taken = st.form_submit_button(f"{side.capitalize()} the ticked ones", type="primary")
    if st.button("Release these and propose others"):
        service.post("/api/queue/release", {"portrait_ids": [shown["portrait_id"] for shown in batch]})
        del st.session_state["triage"]
        st.rerun()
    if taken:
        _take(service, [key for key, ticked in chosen.items() if ticked], list(chosen), side)


def _short_of(held: Mapping[str, Any], side: str) -> str:
    """Why there is nothing to propose, with the best that was reached."""
    best = next((one["best"] for one in held["sides"] if one["side"] == side), None)
    if best is None:
        return "Every portrait that is sure enough is decided already, or held by somebody."
    return (
        f"No threshold reaches the minimum precision of {share(held['target'])}: the best reached "
        f"{share(best)} on held-out decisions. More decisions or a lower minimum may help."
    )


def _percent(probability: float) -> str:
    return "> 99.9 %" if probability > 0.999 else f"{100 * probability:.1f} %"


def _take(service: Service, wanted: list[str], all_of_them: list[str], side: str) -> None:
    seconds = time.monotonic() - st.session_state["triage_since"]
    answer = decide_batch(service, wanted, side, seconds=seconds)
    rest = [one for one in all_of_them if one not in wanted]
    if rest:
        service.post("/api/queue/release", {"portrait_ids": rest})
    refused = {one["decision_id"] for one in answer["refused"]}
    st.session_state["triage_taken"] = wanted if not refused else []
    st.session_state["triage_told"] = (
        f"{len(answer['saved'])} saved as {side}"
        + (f", {len(refused)} refused: {answer['refused'][0]['why']}" if refused else "")
        + (f"; {len(rest)} left to the queue" if rest else "")
    )
    del st.session_state["triage"]
    st.rerun()


def _undo(service: Service) -> None:
    told = st.session_state.get("triage_told")
    if not told:
        return
    st.success(sentence(told))
    taken = st.session_state.get("triage_taken", [])
    if taken and st.button(f"Undo all {len(taken)}"):
        for portrait_id in taken:
            decide(service, portrait_id, "undo", client="triage")
        st.session_state.update(triage_taken=[], triage_told=f"{len(taken)} undone")
        st.session_state.pop("triage", None)
        st.rerun()
