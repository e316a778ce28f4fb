"""The flow behind a scheduled release: build, verify, and push only what verified.

On the command line `phq release build` and `phq release push` do the same without Prefect's start. The flow
is for deployments: its steps show in Prefect's pages, a failed push is tried again where it stopped.
"""

from __future__ import annotations

from typing import Literal

from phq_flows import attempts, environment, worker_paths

environment.prepare()

from prefect import flow, task  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402

from phq_data.errors import ReleaseError  # noqa: E402
from phq_data.release.build import ReleaseOptions  # noqa: E402
from phq_data.release.build import build as build_release  # noqa: E402
from phq_data.release.manifest import NAME  # noqa: E402
from phq_data.release.rights import Permission  # noqa: E402
from phq_data.release.shelf import Shelf  # noqa: E402
from phq_data.release.transfer import push as push_release  # noqa: E402
from phq_data.release.verify import verify as verify_release  # noqa: E402
from phq_data.workspace import Workspace  # noqa: E402


@task(task_run_name="build-{version}", cache_policy=NO_CACHE, persist_result=False)
def build_version(
    workspace: str, releases: str, version: str, unreviewed: bool, images: str, permission: str
) -> str:
    """Build one version; returns its folder."""
    if images not in ("all", "none"):
        raise ReleaseError(f"images is 'all' or 'none', not {images!r}")
    options = ReleaseOptions(
        unreviewed=unreviewed,
        images="none" if images == "none" else "all",
        permissions=(Permission.load(permission),) if permission else (),
    )
    return build_release(Workspace.open(workspace), releases, version, options).folder


@task(cache_policy=NO_CACHE, persist_result=False)
def verify_version(folder: str) -> None:
    """Read every byte. Raises `ReleaseError` naming the first problem."""
    problems = verify_release(folder)
    if problems:
        raise ReleaseError(f"{len(problems)} problems in {folder}; the first: {problems[0]}")


@task(cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=60)
def push_version(folder: str, url: str, permission: str) -> str:
    """Publish a release; another try goes on where the last one stopped. Returns the URL of the copy."""
    stated = [Permission.load(permission)] if permission else []
    return push_release(folder, url, permissions=stated, check=True).url


@flow(name="phq-release", flow_run_name="release-{version}", validate_parameters=False, persist_result=False)
def release(
    workspace: str,
    releases: str,
    version: str,
    push_to: str = "",
    unreviewed: bool = False,
    images: Literal["all", "none"] = "all",
    permission: str = "",
) -> str:
    """Build one version, verify it, and push it if `push_to` is given. Returns the release's folder.

    A version that is there already (of a run that failed after building) is not built again.

    Args:
        workspace: The folder (or fsspec URL) that holds the dataset.
        releases: The folder (or fsspec URL) of all versions.
        version: MAJOR.MINOR.PATCH; what a number promises: docs/releases.md.
        push_to: The URL to publish at; "" for nowhere.
        unreviewed: Release what the screening kept, before a review.
        images: none leaves the images out.
        permission: The path of a statement that rows are used by; "" for none.
    """
    attempts.check()
    worker_paths.check_run()
    there = Shelf(releases).release(version)
    if there.exists(NAME):
        folder = there.url
    else:
        folder = build_version(workspace, releases, version, unreviewed, images, permission)
    verify_version(folder)
    copy = push_version(folder, push_to, permission) if push_to else ""
    create_table_artifact(
        key="phq-release",
        table=[{"version": version, "folder": folder, "copy": copy or "-"}],
        description=f"Release {version} of {workspace}",
    )
    return folder
