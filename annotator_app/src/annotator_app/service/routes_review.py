"""The loop: who I am, what comes next, what I decided, what there is to see."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from annotator_app.service import models
from annotator_app.service.filters import portrait_filter
from annotator_app.service.items import item, log_row, milliseconds
from annotator_app.service.security import COOKIE, AnyReviewer, address_of, is_open, same_secret
from annotator_app.service.state import State
from phq_data.review import evidence, items, reviewers, rules
from phq_data.review.consensus import ReviewError
from phq_data.review.images import KINDS, NoImageError
from phq_data.review.queue import ORDERS, QueueRequest
from phq_data.review.records import POOLS
from phq_data.review.store import NewDecision
from phq_data.stages.screen import REASONS

router = APIRouter()
_FOR_EVER = "private, max-age=31536000, immutable"
_A_DAY = "private, max-age=86400"
_ID = r"^[0-9a-f]{32}$"


@router.get("/api/me", tags=["people"])
def me(request: Request, reviewer: AnyReviewer) -> models.Me:
    """Who is asking."""
    state = State.of(request)
    return models.Me(
        name=reviewer.name, role=reviewer.role, login=state.settings.login, workspace=state.workspace_name
    )


@router.post("/api/login", tags=["people"])
def login(request: Request, response: Response, given: models.Login) -> models.Me:
    """Log in by the token of an invitation, or by a name and the team's password."""
    state = State.of(request)
    address = address_of(request, state.settings)
    if not given.token:
        state.tries.check(address, given.name)
    try:
        found = _who(state, given, is_open(request, state.settings))
    except ReviewError as error:
        raise HTTPException(422, str(error)) from error
    if found is None:
        if not given.token:
            state.tries.failed(address, given.name)
        raise HTTPException(401, "that is not right: see the link of your invitation, or the password")
    response.set_cookie(
        COOKIE, reviewers.login(state.store, found.name), max_age=reviewers.SESSION_DAYS * 86_400,
        httponly=True, samesite="strict", secure=state.settings.secure, path="/",
    )  # fmt: skip
    return models.Me(
        name=found.name, role=found.role, login=state.settings.login, workspace=state.workspace_name
    )


@router.post("/api/logout", tags=["people"])
def logout(request: Request, response: Response) -> models.Count:
    """End the login."""
    cookie = request.cookies.get(COOKIE)
    if cookie:
        reviewers.logout(State.of(request).store, cookie)
    response.delete_cookie(COOKIE, path="/")
    return models.Count(count=int(bool(cookie)))


@router.get("/api/settings", tags=["review"])
def settings(request: Request, reviewer: AnyReviewer) -> models.Settings:
    """What a client needs to know before it begins."""
    state = State.of(request)
    return models.Settings(
        workspace=state.workspace_name,
        rules=rules.VERSION,
        criterion=rules.CRITERION,
        reasons=[
            models.Reason(name=name, title=title, key=str(number + 1))
            for number, (name, title) in enumerate(rules.REASONS.items())
        ],
        yaw_bins=[
            models.YawBin(bin=index, name=rules.bin_name(index), centre=rules.bin_centre(index))
            for index in range(rules.YAW_BINS)
        ],
        sources=items.sources(state.store),
        orders=list(ORDERS),
        policy=state.store.policy(),
        portraits=sum(items.yaw_counts(state.store).values()),
        app=bool(state.settings.app_socket),
        screen_reasons=list(REASONS),
    )


@router.post("/api/queue/next", tags=["review"])
def queue_next(request: Request, reviewer: AnyReviewer, wanted: models.QueueRequest) -> models.QueueAnswer:
    """Lease the next portraits; their meshes begin to be drawn."""
    state = State.of(request)
    state.follow()
    more = portrait_filter(wanted.filter, reviewer)
    leased = state.queue.lease(
        reviewer.name,
        QueueRequest(
            wanted.count, wanted.order, wanted.filter.source, wanted.filter.yaw_bin,
            POOLS.index(wanted.filter.pool or "kept"), wanted.seed, tuple(wanted.exclude), more,
        ),
    )  # fmt: skip
    if wanted.meshes:
        state.images.prepare(leased.portrait_ids)
    found = evidence.describe(state.store, leased.portrait_ids, reviewer.name, state.screen)
    return models.QueueAnswer(
        items=[item(one, state.images.rig_version) for one in found],
        remaining=leased.remaining,
        total=leased.total,
        excluded=leased.excluded,
        lease_seconds=state.store.policy().lease_seconds,
    )


@router.post("/api/queue/release", tags=["review"])
def queue_release(request: Request, reviewer: AnyReviewer, given: models.ReleaseRequest) -> models.Count:
    """Give leases back, so that others may get these portraits."""
    return models.Count(count=State.of(request).queue.release(reviewer.name, given.portrait_ids))


@router.get("/api/items/{portrait_id}", tags=["review"], responses={404: {"model": models.Problem}})
def one_item(
    request: Request, reviewer: AnyReviewer, portrait_id: Annotated[str, Path(pattern=_ID)]
) -> models.Item:
    """A portrait with its evidence."""
    state = State.of(request)
    found = evidence.describe(state.store, [portrait_id], reviewer.name, state.screen)
    if not found:
        raise HTTPException(404, "this workspace has no such portrait")
    return item(found[0], state.images.rig_version)


@router.post("/api/decisions", tags=["review"])
def decide(request: Request, reviewer: AnyReviewer, given: models.DecisionsRequest) -> models.DecisionsAnswer:
    """Save decisions, in order. Sending one again does no harm. An answer means: it is on the disk."""
    state = State.of(request)
    return state.record(
        [
            NewDecision(
                one.decision_id, one.portrait_id, one.verdict, one.reason, one.note, milliseconds(one.time),
                one.seconds, one.rules, one.client, one.order, one.over,
            )
            for one in given.decisions
        ],
        reviewer,
    )  # fmt: skip


@router.get("/api/history", tags=["review"])
def history(
    request: Request,
    reviewer: AnyReviewer,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
    who: Annotated[str | None, Query(alias="reviewer", max_length=80)] = None,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> models.History:
    """The last decisions: one's own; leads may name another `reviewer`, or * for everybody's.

    `after` a `seq`: what came since, of any client.
    """
    wanted = reviewer.name if who is None else who
    if wanted != reviewer.name and not reviewer.lead:
        raise HTTPException(403, "only a lead sees the decisions of others")
    name = None if wanted == "*" else wanted
    rows = State.of(request).store.history(limit, before, name, after)
    return models.History(
        decisions=[log_row(row) for row in rows], before=rows[-1].seq if len(rows) == limit else None
    )


@router.get("/img/{portrait_id}/{kind}", tags=["images"], responses={404: {"model": models.Problem}})
async def image(
    request: Request,
    reviewer: AnyReviewer,
    portrait_id: str,
    kind: str,
    version: Annotated[str, Query(alias="v", max_length=64)] = "",
) -> Response:
    """An image of a portrait: crop, overlay, mask, photo, original or thumb."""
    # In threads of their own: however many images are waited for, a decision is saved at once.
    state = State.of(request)
    return await to_thread.run_sync(
        _image, state, portrait_id, kind, version, request.headers.get("if-none-match"),
        limiter=state.photo_threads if kind in ("photo", "original") else state.image_threads,
    )  # fmt: skip


def _image(state: State, portrait_id: str, kind: str, version: str, known: str | None) -> Response:
    if kind not in KINDS:
        raise HTTPException(404, f"images are {', '.join(KINDS)}")
    stamp = state.images.rig_version
    tag = f'"{portrait_id}-{kind}-{stamp}"' if kind == "overlay" else f'"{portrait_id}-{kind}"'
    lasting = kind != "overlay" or version == stamp
    headers = {"etag": tag, "cache-control": _FOR_EVER if lasting else _A_DAY, "vary": "cookie"}
    try:
        if known == tag:
            state.images.check(portrait_id)
            return Response(status_code=304, headers=headers)
        found = state.images.get(portrait_id, kind)
    except NoImageError as error:
        state.follow(at_once=True)
        return JSONResponse({"detail": str(error)}, 404, headers={"cache-control": "no-store"})
    return Response(found.data, media_type=found.media_type, headers=headers)


def _who(state: State, given: models.Login, open_to_asker: bool) -> reviewers.Reviewer | None:
    if given.token:
        return reviewers.by_token(state.store, given.token)
    if not given.name:
        return None
    if state.settings.login:
        password = state.settings.password
        if not password or not given.password or not same_secret(given.password, password):
            return None
        return reviewers.join(state.store, given.name)
    return reviewers.join(state.store, given.name, "lead") if open_to_asker else None
