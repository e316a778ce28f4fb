"""From downloads to plan items: where the bytes lie, what is recorded of rights, which part names them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from phq_data import schema
from phq_data.records import PlanItem, Provenance
from phq_data.sources.plan import REMOVED, TAKEN_OUT, Plan, photo_key
from phq_data.sources.terms import TERMS, Permission, record_of
from phq_data.sources.web.fetch import Fetched
from phq_data.sources.web.journal import File, Journal
from phq_data.workspace import Workspace, explained


class Store:
    """Puts downloaded photos into the workspace under the name of their bytes."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.folder = (
            Path(workspace.path("photos"))
            if workspace.is_local
            else Path(tempfile.mkdtemp(prefix="phq-scrape-"))
        )
        """Where downloads lie until they have their name."""

    def keep(self, fetched: Fetched) -> str:
        """Move a download to its place; its key. Raises `WorkspaceError` when it cannot be written."""
        assert fetched.path is not None
        key = photo_key(fetched.sha256, fetched.kind)
        if self._workspace.is_local:
            target = Path(self._workspace.path(key))
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(fetched.path, target)  # noqa: PTH105
            except OSError as error:
                raise explained(error, str(target)) from error
        else:
            if not self._workspace.exists(key):
                self._workspace.write_bytes(key, fetched.path.read_bytes())
            fetched.path.unlink()
        return key


class Planner:
    """Writes plan parts and tells the journal."""

    def __init__(
        self, plan: Plan, journal: Journal, provider: str, permissions: Sequence[Permission]
    ) -> None:
        self._plan, self._journal, self._provider = plan, journal, provider
        self._permission = record_of(permissions)
        self._today = datetime.now(UTC).date().isoformat()

    def taken_out(self, uri: str, sha256: str) -> bool:
        """Is a file with these bytes not to come back into the workspace?"""
        return bool(sha256) and self._plan.taken_out(uri, sha256)

    def room(self, part_size: int) -> int:
        """How many files the next part has."""
        return self._plan.room(part_size)

    def append(self, files: Sequence[File]) -> int:
        """A new plan part of these files; its number."""
        part = self._plan.append([self._item(file, new=True) for file in files])
        self._journal.planned(files, part)
        return part

    def amend(self, part: int, files: Sequence[File]) -> None:
        """Put what became of files, at another try, into the part that names them."""
        uris = [uri for uri, _ in self._plan.names(part)]
        items = {uris.index(file.candidate.uri): self._item(file, new=False) for file in files}
        self._plan.amend(part, items)

    def restate(self, files: Sequence[File]) -> list[int]:
        """Put the rights that are stated now into the rows of photos that are planned; the changed parts.
        A permission that was recorded with a row stays unless another one is stated.
        """
        wanted = {(file.candidate.uri, file.sha256): file for file in files}
        touched: list[int] = []
        for part in reversed(self._plan.parts):
            if not wanted:
                break
            changes = {
                position: self._rights(wanted.pop(name))
                for position, name in enumerate(self._plan.names(part))
                if name in wanted
            }
            if changes:
                self._plan.amend(part, changes)
                touched.append(part)
        return touched

    def reconcile(self, queries: Sequence[str]) -> None:
        """A run that was killed after it wrote a part and before it said so: say so now. Parts of the plan
        that are lost: their files are to be planned again.
        """
        self._journal.unplan(self._plan.parts)
        after = 0
        while files := self._journal.unplanned(self._provider, queries, after):
            after = files[-1].seq
            lost = {
                (file.candidate.uri, file.sha256): file
                for file in files
                if file.state != "waiting" and (file.candidate.uri, _size(file), -1) in self._plan.known
            }
            for part in reversed(self._plan.parts):
                if not lost:
                    break
                found = [lost.pop(name) for name in self._plan.names(part) if name in lost]
                self._journal.planned(found, part)

    def _item(self, file: File, *, new: bool) -> PlanItem:
        """The plan's item of a file; `new` when the plan has none of it yet that this one replaces."""
        candidate = file.candidate
        same_as: str | None = None
        if self.taken_out(candidate.uri, file.sha256):  # after it was downloaded, before it was planned
            file = replace(file, key="", reason=REMOVED, message=TAKEN_OUT)
        elif file.sha256:
            same_as = self._plan.owners.get(file.sha256)
            if same_as == candidate.uri and not new:
                same_as = None
            self._plan.owners.setdefault(file.sha256, candidate.uri)
        return PlanItem(
            item=file.sha256 or schema.make_id(candidate.uri),
            size=_size(file),
            mtime_ns=-1,
            sha256=file.sha256,
            key=file.key,
            error=file.reason,
            message=file.message,
            same_as=same_as,
            self_stated=json.loads(file.seen).get("photo"),
            provider=self._provider,
            source=file.query,
            uri=candidate.uri,
            **asdict(self._rights(file)),
        )

    def _rights(self, file: File) -> Provenance:
        """What is recorded of the rights in a file."""
        stated = file.candidate.provenance
        return replace(
            stated,
            file_url=stated.file_url or file.candidate.url,
            rights_checked_at=stated.rights_checked_at or self._today,
            rights_evidence=self._evidence(file),
            permission=self._permission or stated.permission,
        )

    def _evidence(self, file: File) -> str:
        """JSON: what was stated about rights and by whom, and what the site said when we came."""
        terms = TERMS.get(self._provider)
        evidence = file.candidate.provenance.rights_evidence
        record = {
            **file.candidate.stated,
            **json.loads(file.seen),
            **({"stated": evidence} if evidence else {}),
            **({"terms": f"{terms.page}, checked {terms.checked}"} if terms else {}),
        }
        return json.dumps(record, sort_keys=True, ensure_ascii=False)


def _size(file: File) -> int:
    return file.bytes if file.sha256 else file.candidate.size
