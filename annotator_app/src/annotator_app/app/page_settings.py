"""Settings: the question, the rules of the team, the people."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from annotator_app.app.client import Service
from annotator_app.app.parts import sentence


def show(service: Service) -> None:
    """What is asked, how the team reviews, who reviews."""
    settings = service.get("/api/settings")
    me = service.get("/api/me")
    lead = me["role"] == "lead"
    st.caption(f"You are {me['name']} ({me['role']}) · workspace {settings['workspace']}")
    st.subheader("The question")
    st.markdown(settings["criterion"])
    st.caption(f"Version {settings['rules']}; it is written beside every decision.")
    st.subheader("How the team reviews")
    _policy(service, settings["policy"], lead)
    if lead:
        st.subheader("People")
        _people(service)
    else:
        st.caption("Leads change these settings and invite people.")


def _policy(service: Service, policy: dict[str, Any], lead: bool) -> None:
    with st.form("policy"):
        left, right = st.columns(2, gap="large")
        changed = {
            "overlap_share": left.slider(
                "Share that several people judge", 0.0, 1.0, float(policy["overlap_share"]), 0.01,
                help="Needed to measure agreement; 5 to 10 % are usual.", disabled=not lead,
            ),
            "overlap_votes": left.number_input(
                "People who judge each of those", 1, 20, policy["overlap_votes"], disabled=not lead
            ),
            "known_share": left.slider(
                "Share with a known answer, to watch quality", 0.0, 0.5, float(policy["known_share"]), 0.01,
                help="Once portraits have known answers: phq review known.", disabled=not lead,
            ),
            "min_votes": right.number_input(
                "Votes that every portrait needs", 1, 20, policy["min_votes"], disabled=not lead
            ),
            "min_share": right.slider(
                "The winning side needs more than this share", 0.5, 0.99, float(policy["min_share"]), 0.01,
                help="Otherwise the portrait is disputed, and a lead rules.", disabled=not lead,
            ),
            "lease_seconds": right.number_input(
                "Seconds that portraits stay with a reviewer", 10, 86_400, policy["lease_seconds"], 60,
                help="Nobody else is asked about them meanwhile.", disabled=not lead,
            ),
        }  # fmt: skip
        if st.form_submit_button("Save", type="primary", disabled=not lead):
            service.post("/api/policy", changed)
            st.toast("Saved. What is asked and what was agreed is worked out anew.")


def _people(service: Service) -> None:
    people = service.get("/api/reviewers")
    if people:
        st.dataframe(
            pd.DataFrame(people), hide_index=True, width="stretch",
            column_config={"created": st.column_config.DatetimeColumn("since", format="YYYY-MM-DD")},
        )  # fmt: skip
    with st.form("invite", clear_on_submit=True):
        left, middle, right = st.columns([3, 2, 1], vertical_alignment="bottom")
        name = left.text_input("Invite", placeholder="name", max_chars=80)
        role = middle.selectbox("as", ("reviewer", "lead"))
        if right.form_submit_button("Invite", width="stretch") and name.strip():
            given = service.post("/api/reviewers", {"name": name, "role": role})
            st.success(sentence(f"Send {given['name']} this link; it is shown only now"))
            st.code(f"{service.public}{given['path']}", language=None)
