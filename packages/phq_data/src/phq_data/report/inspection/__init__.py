"""Everything known about one file, photo, person, fit or portrait of a workspace, and an image of it."""

from phq_data.report.inspection.find import Inspection, InspectionError, inspect
from phq_data.report.inspection.image import draw, write_image
from phq_data.report.inspection.text import show

__all__ = ["Inspection", "InspectionError", "draw", "inspect", "show", "write_image"]
