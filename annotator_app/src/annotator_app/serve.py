"""The service as a process, `python -m annotator_app.serve`, with its settings as JSON in the environment."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from annotator_app.service.settings import ServiceSettings
from phq_data.errors import PhqError

VARIABLE = "PHQ_REVIEW_SETTINGS"
"""In the environment, not on the command line: the settings may hold a password."""


def environment(settings: ServiceSettings) -> dict[str, str]:
    """Our environment with the settings in it."""
    return {**os.environ, VARIABLE: json.dumps(asdict(settings)), "PYTHONUNBUFFERED": "1"}


def main() -> None:
    """Serve until told to stop. What the user can mend is one sentence and exit code 1."""
    from annotator_app.limits import serve
    from annotator_app.service import create_app

    given = json.loads(os.environ.pop(VARIABLE))
    settings = ServiceSettings(**{**given, "names": tuple(given["names"])})
    try:
        app = create_app(settings)
    except PhqError as error:
        sys.stderr.write(f"phq: {error}\n")
        sys.exit(1)
    serve(app, settings.host, settings.port)


if __name__ == "__main__":
    main()
