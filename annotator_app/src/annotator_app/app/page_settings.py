"""Settings: the criterion, the rules of the team, the reviewers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from annotator_app.app.client import Service
from annotator_app.app.parts import sentence


def show(service: Service) -> None:
    """The criterion, the policy, the reviewers."""
    settings = service.get("/api/settings")
    me = service.get("/api/me")
    lead = me["role"] == "lead"
    st.caption(f"You are {me['name']} ({me['role']}) · workspace {settings['workspace']}")
    st.subheader("Criterion")
    st.markdown(settings["criterion"])
    st.caption(f"Version {settings['rules']}; it is recorded with every decision.")
    st.subheader("Policy")
    _policy(service, settings["policy"], lead)
    if lead:
        st.subheader("Reviewers")
        _people(service)
    else:
        st.caption("Leads change these settings and invite reviewers.")


def _policy(service: Service, policy: dict[str, Any], lead: bool) -> None:
    with st.form("policy"):
        left, right = st.columns(2, gap="large")
        changed = {
            "overlap_share": left.slider(
                "Overlap: share of portraits for several reviewers", 0.0, 1.0,
                float(policy["overlap_share"]), 0.01, disabled=not lead,
                help="Agreement is measured on these; 5 to 10 % are usual.",
            ),
            "overlap_votes": left.number_input(
                "Reviewers per overlap portrait", 1, 20, policy["overlap_votes"], disabled=not lead
            ),
            "gold_share": left.slider(
                "Gold items: share of each reviewer's queue", 0.0, 0.5, float(policy["gold_share"]), 0.01,
                help="Portraits become gold items by phq review gold.", disabled=not lead,
            ),
            "gold_feedback": left.checkbox(
                "Tell reviewers what is known of a gold item that they judged", policy["gold_feedback"],
                help="They learn from it, and learn to know the gold items.", disabled=not lead,
            ),
            "min_votes": right.number_input(
                "Votes per portrait", 1, 20, policy["min_votes"], disabled=not lead
            ),
            "min_share": right.slider(
                "Majority: share of votes a verdict must exceed", 0.5, 0.99, float(policy["min_share"]), 0.01,
                help="Otherwise the portrait is disputed and a lead adjudicates.", disabled=not lead,
            ),
            "lease_seconds": 60 * right.number_input(
                "Lease in minutes", 1, 1_440, max(1, round(policy["lease_seconds"] / 60)),
                help="How long portraits are held for one reviewer.", disabled=not lead,
            ),
        }  # fmt: skip
        if st.form_submit_button("Save", type="primary", disabled=not lead):
            service.post("/api/policy", changed)
            st.toast("Saved. The queue and the consensus are recomputed.")


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
            st.success(sentence(f"Send {given['name']} this link; it is shown only once"))
            st.code(f"{service.public}{given['path']}", language=None)
