"""The team: progress, agreement, disputes, gallery, triage, settings, invitations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal, cast

from fastapi import APIRouter, HTTPException, Query, Request

from annotator_app.service import models, models_team
from annotator_app.service.filters import portrait_filter
from annotator_app.service.items import images, milliseconds, moment
from annotator_app.service.security import AnyReviewer, Lead
from annotator_app.service.state import State
from phq_data.review import agreement, gallery, items, reviewers, rules, triage
from phq_data.review.consensus import ReviewError
from phq_data.review.gallery import GalleryItem
from phq_data.review.records import POOLS
from phq_data.review.reviewers import Reviewer
from phq_data.review.store import NewDecision, now_ms

router = APIRouter()
_DAYS = 60 * 86_400_000
_MOST_SOURCES = 500


@router.get("/api/stats", tags=["team"])
def stats(request: Request, reviewer: AnyReviewer) -> models_team.Stats:
    """Progress, throughput, reasons."""
    state = State.of(request)
    state.follow(at_once=True)
    bins = agreement.progress(state.store, "yaw_bin")
    total = {
        name: sum(getattr(one, name) for one in bins.values())
        for name in ("total", "accepted", "rejected", "disputed", "undecided")
    }
    sources = sorted(agreement.progress(state.store, "source").values(), key=lambda one: -one.total)
    team = [
        one for one in agreement.throughput(state.store) if reviewer.lead or one.reviewer == reviewer.name
    ]
    pools = agreement.progress(state.store, "pool")
    return models_team.Stats(
        total=agreement.Progress(name="all", **total),
        remaining=state.queue.remaining(reviewer.name),
        yaw_bins=[
            models_team.YawBinProgress(
                **{**vars(one), "name": rules.bin_name(key)}, yaw_bin=key, centre=rules.bin_centre(key)
            )
            for key, one in bins.items()
        ],
        sources=sources[:_MOST_SOURCES],
        reviewers=[models_team.Throughput(**{**vars(one), "last": moment(one.last)}) for one in team],
        reasons=agreement.reject_reasons(state.store),
        days=agreement.days(state.store, now_ms() - _DAYS),
        pools={POOLS[key]: one.total for key, one in pools.items()},
    )


@router.get("/api/agreement", tags=["team"])
def agree(request: Request, reviewer: Lead) -> models_team.TeamAgreement:
    """How well reviewers agree, with each other and on gold items. Leads only."""
    store = State.of(request).store
    found, gold = agreement.agreement(store), agreement.gold_scores(store)
    return models_team.TeamAgreement(**vars(found), gold=tuple(gold))


@router.get("/api/adjudication", tags=["team"])
def adjudication(
    request: Request, reviewer: Lead, limit: Annotated[int, Query(ge=1, le=200)] = 60
) -> models.Gallery:
    """Disputes that wait for a lead's decision, whose client is "adjudication". Leads only."""
    state = State.of(request)
    rows, total = gallery.disputes(state.store, limit)
    return models.Gallery(items=_tiles(state, rows, reviewer), total=total)


@router.get("/api/gallery", tags=["team"])
def browse(
    request: Request, reviewer: AnyReviewer, wanted: Annotated[models.GalleryQuery, Query()]
) -> models.Gallery:
    """Portraits by what became of them, those with the highest error probability first."""
    held = State.of(request)
    pool = None if wanted.pool is None else POOLS.index(wanted.pool)
    given = dataclasses.replace(
        portrait_filter(wanted, reviewer), state=wanted.state, source=wanted.source, yaw_bin=wanted.yaw_bin,
        pool=pool, sort=wanted.sort,
    )  # fmt: skip
    rows, total = gallery.page(held.store, given, offset=wanted.offset, limit=wanted.limit)
    return models.Gallery(items=_tiles(held, rows, reviewer), total=total)


@router.get("/api/triage", tags=["team"])
def propose(
    request: Request,
    reviewer: AnyReviewer,
    side: Literal["accept", "reject"] = "accept",
    count: Annotated[int, Query(ge=1, le=200)] = 48,
    target: Annotated[float, Query(ge=0.8, le=0.999)] = triage.TARGET,
) -> models_team.Triage:
    """The triage's model, and a batch to accept at a glance."""
    state = State.of(request)
    learned = triage.learn(state.store, target)
    probability = dict(triage.propose(state.store, learned, side, 2 * count, reviewer.name))
    mine = state.queue.claim(reviewer.name, list(probability))
    state.queue.release(reviewer.name, mine[count:])
    tiles = _tiles(state, gallery.shown(state.store, mine[:count]), reviewer)
    return models_team.Triage(
        ready=learned.model is not None,
        why=learned.why,
        decisions=learned.decisions,
        accepts=learned.accepts,
        target=target,
        sides=list(learned.sides),
        weights=[models_team.Weight(name=name, weight=weight) for name, weight in learned.weights()],
        side=side,
        batch=[
            models_team.Proposed(**tile.model_dump(), probability=probability[tile.portrait_id])
            for tile in tiles
        ],
    )


@router.post("/api/triage/accept", tags=["team"])
def accept_batch(
    request: Request, reviewer: AnyReviewer, given: models_team.TriageAccept
) -> models.DecisionsAnswer:
    """Take a batch: every portrait becomes an ordinary decision, with client "triage", that can be undone."""
    state = State.of(request)
    each = given.seconds / max(1, len(given.decisions))
    return state.record(
        [
            NewDecision(
                one.decision_id, one.portrait_id, given.verdict, given.reason, None, milliseconds(given.time),
                each, rules.VERSION, agreement.TRIAGE, agreement.TRIAGE,
            )
            for one in given.decisions
        ],
        reviewer,
    )  # fmt: skip


@router.post("/api/policy", tags=["team"])
def change_policy(request: Request, reviewer: Lead, change: models_team.PolicyChange) -> rules.Policy:
    """Change how the team reviews. Leads only."""
    store = State.of(request).store
    given = {name: value for name, value in change.model_dump().items() if value is not None}
    try:
        policy = dataclasses.replace(store.policy(), **given)
    except ReviewError as error:
        raise HTTPException(422, str(error)) from error
    store.set_policy(policy)
    return policy


@router.post("/api/gold", tags=["team"])
def gold(request: Request, reviewer: Lead, given: models_team.GoldItems) -> models.Count:
    """Make gold items of portraits, to measure the quality of reviewers. Leads only."""
    return models.Count(count=items.set_gold(State.of(request).store, given.verdicts))


@router.get("/api/reviewers", tags=["people"])
def people(request: Request, reviewer: Lead) -> list[models_team.Person]:
    """Everybody who was invited or joined. Leads only."""
    return [
        models_team.Person(name=one.name, role=one.role, created=moment(one.created), disabled=one.disabled)
        for one in reviewers.everybody(State.of(request).store)
    ]


@router.post("/api/reviewers", tags=["people"])
def invite(request: Request, reviewer: Lead, given: models_team.Invitation) -> models_team.Invited:
    """Invite somebody, or give him a new token. Leads only."""
    try:
        token = reviewers.invite(State.of(request).store, given.name, given.role)
    except ReviewError as error:
        raise HTTPException(422, str(error)) from error
    return models_team.Invited(
        name=given.name.strip(), role=given.role, token=token, path=f"/login#token={token}"
    )


def _tiles(state: State, rows: Sequence[GalleryItem], reviewer: Reviewer) -> list[models.Tile]:
    found = []
    for row in rows:
        urls = images(row.portrait_id, state.images.rig_version)
        votes = [
            models.Vote(
                reviewer=vote.reviewer, verdict=vote.verdict, reason=vote.reason, note=vote.note,
                time=moment(vote.time),
            )
            for vote in row.votes
            if reviewer.lead or vote.reviewer == reviewer.name
        ]  # fmt: skip
        found.append(
            models.Tile(
                portrait_id=row.portrait_id, thumb=urls.thumb, overlay=urls.overlay,
                crop=urls.crop, state=row.state, source=row.source, yaw_bin=row.yaw_bin,
                error_probability=row.error_probability, pool=cast(models.Pool, POOLS[row.pool]), votes=votes,
            )
        )  # fmt: skip
    return found
