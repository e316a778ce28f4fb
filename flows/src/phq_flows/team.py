"""What a team's Prefect server keeps for PHQ: deployments, concurrency limits, and that lost runs go on.

A run whose process ends without a word is marked Crashed by its worker; one whose machine is lost stops
sending heartbeats, and an automation of the server marks it. Another one schedules crashed runs again, with
the same parameters, and the flow resumes: parts that are done are skipped, and the workspace's lock keeps a
process that was only cut off apart from its successor. A flow that begins looks at how often it did
(`attempts.check`); a run that crashes before, as on a worker that cannot import the flow, is ended by a third
automation.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from typing import Any

from phq_data import __version__
from phq_data.text import suggestion
from phq_data.typed_json import ConfigError
from phq_flows import environment, worker_paths
from phq_flows.serve_file import Deployment, ServeFile
from phq_flows.server import ServerError

environment.prepare()

import httpx  # noqa: E402
from prefect import Flow, get_client  # noqa: E402
from prefect.client.schemas.filters import FlowFilter, FlowFilterName  # noqa: E402
from prefect.client.schemas.objects import StateType  # noqa: E402
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule  # noqa: E402
from prefect.deployments.runner import RunnerDeployment  # noqa: E402
from prefect.events.actions import ChangeFlowRunState  # noqa: E402
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture  # noqa: E402
from prefect.events.schemas.events import ResourceSpecification  # noqa: E402
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError  # noqa: E402
from prefect.types.entrypoint import EntrypointType  # noqa: E402
from prefect.utilities.callables import parameter_schema  # noqa: E402
from prefect.utilities.schema_tools.validation import ValidationError, validate  # noqa: E402
from pydantic import ValidationError as InvalidError  # noqa: E402

FLOW_NAMES = ("phq-scrape", "phq-build", "phq-report", "phq-release")
SILENT, CRASHED = "phq: silent runs have crashed", "phq: crashed runs go on"
HOPELESS = "phq: runs that crash again and again fail"
MOST_CRASHES, CRASH_HOURS = 20, 24
"""More than `attempts.MOST`, so that a flow that begins says itself what to look at."""
SETTLE_SECONDS = 20
"""A worker reports one crash several times, over some ten seconds; a run that was taken up before the last of
them would be called crashed, too."""


def deployments(file: ServeFile, *, on_workers: bool = False) -> list[RunnerDeployment]:
    """The file's deployments as Prefect has them.

    Raises `ConfigError` for what no flow takes, and for relative paths of flows that run `on_workers`.
    """
    return [_deployment(one, on_workers) for one in file.deployments]


async def register(made: Iterable[RunnerDeployment], pool: str, say: Callable[[str], None]) -> None:
    """Hand deployments to the workers of a pool, which is made (for processes) where there is none."""
    from prefect.client.schemas.actions import WorkPoolCreate

    async with get_client() as client:
        try:
            await client.read_work_pool(pool)
        except ObjectNotFound:
            await client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
            say(f"made the work pool {pool}, of processes")
    for one in made:
        one.job_variables = {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(environment.HEARTBEAT_SECONDS)}}
        await one.aapply(work_pool_name=pool)
        say(f"{one.flow_name}/{one.name}")


async def prepare(file: ServeFile) -> None:
    """Set up limits and automations, and make the deployments of our flows refuse misspelt parameters."""
    async with get_client() as client:
        for name, limit in file.limits.items():
            await client.upsert_global_concurrency_limit_by_name(name, limit)
        for automation in automations(file.lost_after_seconds):
            known = await client.read_automations_by_name(automation.name)
            if not known:
                await client.create_automation(automation)
            elif _said(known[0]) != _said(automation):
                # Only then: a changed automation begins to listen anew, and forgets who is silent already.
                await client.update_automation(known[0].id, automation)
        ours = FlowFilter(name=FlowFilterName(any_=list(FLOW_NAMES)))
        for one in await client.read_deployments(flow_filter=ours):
            schema = {**(one.parameter_openapi_schema or {}), "additionalProperties": False}
            await client.request(
                "PATCH", "/deployments/{id}", path_params={"id": one.id},
                json={"parameter_openapi_schema": schema},
            )  # fmt: skip


def automations(lost_after_seconds: int) -> list[AutomationCore]:
    """What the server does by itself with runs of ours that nobody works on any more."""
    runs = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
    ours = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": list(FLOW_NAMES)})

    hopeless = (
        f"It crashed {MOST_CRASHES} times in {CRASH_HOURS} h and is not taken up any more. Look at the "
        "worker's log: can it import the flow? What is done is kept."
    )

    def when(after: set[str], seconds: int, state: StateType, name: str, why: str) -> AutomationCore:
        """So long after one of these events nothing more was heard of the run: it gets another state."""
        trigger = EventTrigger(
            after=after, expect={"prefect.flow-run.*"}, match=runs, match_related=ours, threshold=1,
            posture=Posture.Proactive, for_each={"prefect.resource.id"}, within=timedelta(seconds=seconds),
        )  # fmt: skip
        # Not by force: the server keeps a run that ended as it is, should a sign of life come after its end.
        action = ChangeFlowRunState(state=state, name=name, message=why, force=False)
        title = {StateType.CRASHED: SILENT, StateType.SCHEDULED: CRASHED}[state]
        return AutomationCore(name=title, description=why, trigger=trigger, actions=[action])

    return [
        when(
            # Running, too: a run may lose its machine before the first heartbeat.
            {"prefect.flow-run.heartbeat", "prefect.flow-run.Running"}, lost_after_seconds,
            StateType.CRASHED, "Crashed",
            f"No sign of life for {lost_after_seconds} s: its machine is lost.",
        ),
        when(
            {"prefect.flow-run.Crashed"}, SETTLE_SECONDS, StateType.SCHEDULED, "AwaitingRetry",
            f"It crashed {SETTLE_SECONDS} s ago: it is taken up again.",
        ),
        AutomationCore(
            name=HOPELESS, description=hopeless,
            trigger=EventTrigger(
                expect={"prefect.flow-run.Crashed"}, match=runs, match_related=ours, threshold=MOST_CRASHES,
                posture=Posture.Reactive, for_each={"prefect.resource.id"},
                within=timedelta(hours=CRASH_HOURS),
            ),
            actions=[
                ChangeFlowRunState(state=StateType.FAILED, name="Failed", message=hopeless, force=False)
            ],
        ),
    ]  # fmt: skip


def check_answers() -> None:
    """Raises `ServerError` when the configured server cannot be reached."""

    async def ask() -> Exception | None:
        async with get_client() as client:
            return await client.api_healthcheck()

    with told():
        lost = asyncio.run(ask())
    if lost is not None:
        raise ServerError(f"the Prefect server at {_address()} does not answer ({_reason(lost)}): {_ADVICE}")


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What the server's client raises, as one sentence."""
    try:
        yield
    except PrefectHTTPStatusError as error:
        raise ServerError(
            f"the Prefect server at {_address()} refused ({error.response.status_code}): "
            f"{error.response.text[:300]}"
        ) from error
    except httpx.HTTPError as error:
        raise ServerError(
            f"the Prefect server at {_address()} does not answer ({_reason(error)}): {_ADVICE}"
        ) from error
    except RuntimeError as error:  # of another version, for example
        if isinstance(error, ServerError):
            raise
        raise ServerError(f"the Prefect server at {_address()} cannot be used: {_reason(error)}") from error


_ADVICE = "is it running (`prefect server start`), and is PREFECT_API_URL its address with /api?"


def _deployment(one: Deployment, on_workers: bool) -> RunnerDeployment:
    function: Flow[..., Any] = getattr(import_module(f"phq_flows.{one.flow}"), one.flow)
    _check_parameters(one, parameter_schema(function).model_dump_for_openapi(), on_workers)
    made: RunnerDeployment = function.to_deployment(  # type: ignore[assignment]
        one.called, schedule=_schedule(one), parameters=dict(one.parameters), tags=list(one.tags),  # type: ignore[arg-type]
        description=one.description or None, version=__version__, concurrency_limit=one.concurrency_limit,
        paused=one.paused or None, entrypoint_type=EntrypointType.MODULE_PATH,
    )  # fmt: skip
    return made


def _schedule(one: Deployment) -> CronSchedule | IntervalSchedule | None:
    if period := one.period():
        return IntervalSchedule(interval=period, timezone=one.timezone)
    if not one.cron:
        return None
    try:
        return CronSchedule(cron=one.cron, timezone=one.timezone)
    except InvalidError as error:
        raise ConfigError(
            f"{one.called}: cron is five fields (minute, hour, day, month, day of the week), "
            f"for example '0 3 * * *', not {one.cron!r}"
        ) from error


def _check_parameters(one: Deployment, schema: Mapping[str, Any], on_workers: bool) -> None:
    """Raises `ConfigError` for a name or a type that the flow does not have. A run may give what lacks."""
    names = list(schema["properties"])
    for name in one.parameters:
        if name not in names:
            hint = suggestion(name, names)
            raise ConfigError(f"{one.called}: {one.flow} has no parameter '{name}'; {hint}")
    try:
        validate(dict(one.parameters), dict(schema), raise_on_error=True, ignore_required=True)
        if on_workers:
            worker_paths.check(one.parameters)
    except (ValidationError, ConfigError) as error:
        raise ConfigError(f"{one.called}: parameters: {error}") from error


def _said(automation: AutomationCore) -> tuple[str, set[str]]:
    """What tells two versions of an automation of ours apart."""
    return automation.description, set(getattr(automation.trigger, "after", ()))


def _address() -> str:
    from phq_data.cli.doctor import prefect_server

    return prefect_server()[0]


def _reason(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
