"""The Streamlit app around the review page: queue, dashboard, gallery, triage, history, settings."""
