"""The application: routes, errors, static files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from annotator_app.service import documentation, routes_correct, routes_review, routes_team
from annotator_app.service.app_proxy import AppProxy
from annotator_app.service.page_files import PageFiles
from annotator_app.service.security import API_VERSION, Gate
from annotator_app.service.settings import ServiceSettings, check_access
from annotator_app.service.state import State
from phq_data import __version__
from phq_data.review import reviewers
from phq_data.review.database import StoreError, StoreFullError
from phq_data.workspace import WorkspaceError


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

    proxy = AppProxy(settings.app_socket) if settings.app_socket else None

    @contextlib.asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield
        state.stop()
        if proxy is not None:
            await proxy.close()

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
    _add_health(app)
    PageFiles().add(app)
    if proxy is not None:
        proxy.add(app)
    return app


def _add_health(app: FastAPI) -> None:
    @app.get("/api/health", include_in_schema=False)
    def health() -> dict[str, str]:
        return {"status": "ok"}


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
