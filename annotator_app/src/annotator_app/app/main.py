"""The script that Streamlit runs for every page; `app.serve` serves it, started by `phq review`."""

from __future__ import annotations

import streamlit as st

from annotator_app.app import (
    page_dashboard,
    page_gallery,
    page_history,
    page_queue,
    page_settings,
    page_triage,
)
from annotator_app.app.parts import STYLE, page


def main() -> None:
    """Show the page that was asked for."""
    st.set_page_config(page_title="PHQ review", page_icon="🖼️", layout="wide")
    st.html(STYLE)
    pages = [
        st.Page(page("", page_queue.show), title="Review", url_path="review", default=True),
        st.Page(page("Dashboard", page_dashboard.show), title="Dashboard", url_path="dashboard"),
        st.Page(page("Gallery", page_gallery.show), title="Gallery", url_path="gallery"),
        st.Page(page("Auto-triage", page_triage.show), title="Auto-triage", url_path="triage"),
        st.Page(page("History", page_history.show), title="History", url_path="history"),
        st.Page(page("Settings", page_settings.show), title="Settings", url_path="settings"),
    ]
    st.navigation(pages, position="top").run()


main()
