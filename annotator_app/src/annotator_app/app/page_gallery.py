"""The gallery: a contact sheet of portraits by what became of them, with filters."""

from __future__ import annotations

import streamlit as st

from annotator_app.app.client import Service
from annotator_app.app.parts import POOLS, STATES, grid

_PAGE = 60


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
    chosen = (state, yaw_bin, source, pool)
    if st.session_state.get("gallery_chosen") != chosen:
        st.session_state["gallery_chosen"] = chosen
        st.session_state["gallery_page"] = 0
    number = st.session_state["gallery_page"]
    found = service.get(
        "/api/gallery", state=state, source=source, yaw_bin=bins[yaw_bin] if yaw_bin else None,
        pool=pool, offset=number * _PAGE, limit=_PAGE,
    )  # fmt: skip
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
        f"{', ' + state if state else ''}), by error probability · page {number + 1} of {pages}"
    )
    if after.button("Next →", disabled=number + 1 >= pages, width="stretch"):
        st.session_state["gallery_page"] += 1
        st.rerun()
