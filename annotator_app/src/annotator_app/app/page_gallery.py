"""The gallery: a contact sheet of portraits by what became of them, with filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from annotator_app.app.client import Service
from annotator_app.app.parts import POOLS, STATES, grid

_PAGE = 60
_SORTS = {
    "error_probability": "error probability", "certain": "certainty", "yaw": "yaw", "source": "source",
    "latest": "latest verdict",
}  # fmt: skip


def show(service: Service) -> None:
    """Filters, pages, portraits."""
    settings = service.get("/api/settings")
    bins = {one["name"]: one["bin"] for one in settings["yaw_bins"]}
    columns = st.columns([2, 1.5, 1.5, 1.5, 1.2], vertical_alignment="bottom")
    state = columns[0].segmented_control("State", STATES, default=None, key="gallery_state")
    yaw_bin = columns[1].selectbox("Yaw bin", [None, *bins], format_func=lambda name: name or "all")
    source = columns[2].selectbox(
        "Source", [None, *settings["sources"]], format_func=lambda name: name or "all"
    )
    pool = columns[3].selectbox("Portraits", [*POOLS], format_func=lambda name: POOLS[name])
    mesh = columns[4].toggle("Meshes", value=False, help="Drawing the meshes takes a few seconds.")
    chosen = {
        "state": state, "source": source, "yaw_bin": bins[yaw_bin] if yaw_bin else None, "pool": pool,
        **_more(service, settings),
    }  # fmt: skip
    if st.session_state.get("gallery_chosen") != chosen:
        st.session_state["gallery_chosen"] = chosen
        st.session_state["gallery_page"] = 0
    number = st.session_state["gallery_page"]
    found = service.get("/api/gallery", **chosen, offset=number * _PAGE, limit=_PAGE)
    if not found["total"]:
        st.info("No portraits match.")
        return
    pages = -(-found["total"] // _PAGE)
    grid(service, found["items"], mesh=mesh)
    before, text, after = st.columns([1, 3, 1])
    if before.button("← Previous", disabled=number == 0, width="stretch"):
        st.session_state["gallery_page"] -= 1
        st.rerun()
    first, last = number * _PAGE + 1, min(found["total"], (number + 1) * _PAGE)
    text.caption(
        f"{first:,} to {last:,} of {found['total']:,} portraits ({POOLS[pool]}"
        f"{', ' + state if state else ''}), by {_SORTS[chosen['sort']]} · page {number + 1} of {pages}"
    )
    if after.button("Next →", disabled=number + 1 >= pages, width="stretch"):
        st.session_state["gallery_page"] += 1
        st.rerun()


def _more(service: Service, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Filters and order that are seldom asked for, as the service calls them."""
    me = service.get("/api/me")
    with st.expander("More filters, order"):
        first, second, third = st.columns(3), st.columns(3), st.columns(3)
        text = first[0].text_input(
            "Text", help="Within the source or the file's name; or the beginning of an id."
        )
        person = first[1].text_input("Person", help="The id of a person.")
        sort = first[2].selectbox("Order", [*_SORTS], format_func=lambda name: _SORTS[name].capitalize())
        low, high = second[0].slider("Error probability", 0.0, 1.0, (0.0, 1.0), 0.01)
        reasons = {one["name"]: one["title"] for one in settings["reasons"]}
        reason = second[1].selectbox(
            "Reason", [None, *reasons], format_func=lambda name: reasons[name] if name else "all"
        )
        people = [me["name"]]
        if me["role"] == "lead":
            people = [row["reviewer"] for row in service.get("/api/stats")["reviewers"]]
        reviewer = second[2].selectbox("Reviewer", [None, *people], format_func=lambda name: name or "all")
        since = third[0].date_input("Decided since", None)
        until = third[1].date_input("Decided until", None)
        screened = third[2].selectbox(
            "Rejected by the screening as", [None, *settings["screen_reasons"]],
            format_func=lambda name: name.replace("_", " ") if name else "all",
        )  # fmt: skip
    return {
        "text": text.strip() or None, "person": person.strip() or None, "sort": sort, "reason": reason,
        "min_error": low or None, "max_error": high if high < 1 else None, "reviewer": reviewer,
        "screened": screened, "since": since and str(since), "until": until and str(until),
    }  # fmt: skip
