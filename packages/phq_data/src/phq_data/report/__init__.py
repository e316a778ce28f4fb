"""The report of a workspace: one HTML page that needs nothing else, and its contact sheets as pictures."""

from phq_data.report.page import PICTURES, report_pictures, write_report

__all__ = ["PICTURES", "report_pictures", "write_report"]
