"""The application: routes, errors, static files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from annotator_app.service import documentation, routes_correct, routes_review, routes_team
from annotator_app.service.security import API_VERSION, Gate
from annotator_app.service.settings import ServiceSettings, check_access
from annotator_app.service.state import State
from phq_data import __version__
from phq_data.review import reviewers
from phq_data.review.database import StoreError, StoreFullError
from phq_data.workspace import WorkspaceError

_PAGES = Path(__file__).with_name("pages")
_STATIC = Path(__file__).parent.parent / "static"


def create_app(settings: ServiceSettings) -> FastAPI:
    """The review service of a workspace, ready to be served.

    Raises `AccessError` when it could be reached by others without a login, `WorkspaceError` when there is
    no workspace, `StoreError` when the database cannot be used.
    """
    state = State(settings)
    try:
        check_access(settings, invited=any(one.invited for one in reviewers.everybody(state.store)))
        reviewers.ask_logins(state.store, settings.login)
    except BaseException:
        state.stop()
        raise

    @contextlib.asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield
        state.stop()

    app = FastAPI(
        title="PHQ review", version=__version__, lifespan=running, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json",
        description=f"Decisions of people about portraits. Changes need the header `X-PHQ: {API_VERSION}`.",
    )  # fmt: skip
    app.state.phq = state
    app.state.store, app.state.settings, app.state.tries = state.store, settings, state.tries
    app.add_middleware(Gate, settings=settings)
    app.add_exception_handler(StoreError, _store_problem)
    app.add_exception_handler(WorkspaceError, _workspace_problem)
    app.add_exception_handler(RequestValidationError, _wrong_request)
    app.include_router(routes_review.router)
    app.include_router(routes_team.router)
    app.include_router(routes_correct.router)
    documentation.add(app)
    _add_pages(app)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/api/health", include_in_schema=False)
    def health() -> dict[str, str]:
        return {"status": "ok"}

    version = _version()

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        index = _STATIC / "index.html"
        if not index.is_file():
            return HTMLResponse("<p>The page is not installed; the API is described at /api/docs.</p>")
        text = index.read_text("utf-8").replace("/assets/", f"/assets/{version}/")
        return HTMLResponse(text, headers={"cache-control": "no-cache"})

    @app.get("/login", include_in_schema=False)
    def login() -> Response:
        return FileResponse(_PAGES / "login.html", headers={"cache-control": "no-cache"})

    @app.get("/login.js", include_in_schema=False)
    def login_script() -> Response:
        return FileResponse(_PAGES / "login.js", media_type="text/javascript")

    if _STATIC.is_dir():
        app.mount(f"/assets/{version}", _Assets(directory=_STATIC), name="assets")


def _version() -> str:
    """A digest of the page's files, in their addresses: an upgrade never mixes old and new ones."""
    found = hashlib.sha256()
    for path in sorted(one for one in _STATIC.rglob("*") if one.is_file()):
        found.update(path.relative_to(_STATIC).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


class _Assets(StaticFiles):
    """The page's files; those of a version never change."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        """A file, or 304."""
        answer = super().file_response(*given, **named)
        answer.headers["cache-control"] = "public, max-age=31536000, immutable"
        return answer


async def _store_problem(_: Request, error: Exception) -> Response:
    status = 507 if isinstance(error, StoreFullError) else 503
    return JSONResponse({"detail": str(error)}, status, headers={"retry-after": "2"})


async def _workspace_problem(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503, headers={"retry-after": "10"})


async def _wrong_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Not what was sent: it may be long, and is known to the sender.
    told = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5]]
    return JSONResponse({"detail": "; ".join(told)}, 422)
