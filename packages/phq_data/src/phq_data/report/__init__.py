"""The report of a workspace: one HTML page that needs nothing else, and its contact sheets as images."""

from phq_data.report.page import SHEETS, report_images, write_report

__all__ = ["SHEETS", "report_images", "write_report"]
