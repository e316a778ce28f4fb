"""The review service: decisions, queue and images of a workspace over HTTP."""

from annotator_app.service.app import create_app
from annotator_app.service.settings import AccessError, ServiceSettings

__all__ = ["AccessError", "ServiceSettings", "create_app"]
