"""The queue: the review page of the service in a frame that fills the window."""

from __future__ import annotations

import os
from urllib.parse import quote

import streamlit as st

from annotator_app.app.client import Service

_STYLE = """
<style>
.block-container { padding: 3.4rem 0 0 !important; max-width: none !important; }
.block-container iframe { height: calc(100dvh - 3.6rem) !important; min-height: 34rem; border: 0; }
.stMain { overflow: hidden; }
</style>
"""


def show(service: Service) -> None:
    """The review page."""
    service.get("/api/me")  # a login that is missing is told here, not inside the frame
    st.html(_STYLE)
    order = quote(os.environ.get("PHQ_QUEUE_ORDER", "error_probability"))
    st.iframe(f"{service.public}/?order={order}", height=700, alt="Review page: judge portraits by keyboard")
