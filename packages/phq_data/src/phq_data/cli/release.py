"""`phq release ...`: build, verify, compare, take down, move and fill releases."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phq_data.cli import release_trace
from phq_data.cli.release_trace import JSON_OUT, RELEASES, RUNS
from phq_data.text import counted

if TYPE_CHECKING:
    from phq_data.release.build import ReleaseResult
    from phq_data.release.rights import Permission

PERMISSION = typer.Option(
    "--permission", help="A permission that you have: JSON with who, scope, date, reference. Repeatable."
)


def register(app: typer.Typer) -> None:
    """Add the `release` commands to the phq program."""
    sub = typer.Typer(no_args_is_help=True, help="Versioned releases of the dataset.")
    for name, command in (
        ("build", build), ("list", list_), ("stats", stats), ("verify", verify), ("diff", diff),
        ("takedown", takedown), ("trace", release_trace.trace), ("push", push), ("pull", pull),
        ("fill", fill),
    ):  # fmt: skip
        sub.command(name)(command)
    app.add_typer(sub, name="release")


def build(
    version: Annotated[str, typer.Option(help="MAJOR.MINOR.PATCH, for example 1.2.0.")],
    workspace: Annotated[str, typer.Option("--workspace", "-w", help="The workspace to release.")],
    releases: Annotated[
        str,
        typer.Option(
            "--releases",
            "-r",
            help="The folder (or fsspec URL) of releases.",
            show_default="WORKSPACE/releases",
        ),
    ] = "",
    unreviewed: Annotated[
        bool, typer.Option("--unreviewed", help="Release what the screening kept, marked as not reviewed.")
    ] = False,
    images: Annotated[str, typer.Option(help="all, or none where images may not be published.")] = "all",
    name: Annotated[str, typer.Option(help="The dataset's name.")] = "phq-portraits",
    creator: Annotated[str, typer.Option(help="Who makes the release.")] = "",
    url: Annotated[str, typer.Option(help="Where it will be published.")] = "",
    date: Annotated[str, typer.Option(help="ISO date of the release; today if not given.")] = "",
    parent: Annotated[str, typer.Option(help="Version to compare with; the highest if not given.")] = "",
    repack: Annotated[bool, typer.Option("--repack", help="Pack all rows anew (a PATCH).")] = False,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep all members of near-duplicate clusters.")
    ] = False,
    only_permitted: Annotated[
        bool,
        typer.Option(
            "--only-permitted", help="Leave out photos that nobody has allowed, instead of stopping."
        ),
    ] = False,
    min_votes: Annotated[int, typer.Option(help="Reviewers that must have voted.")] = 1,
    min_share: Annotated[float, typer.Option(help="More than this share must have accepted.")] = 0.5,
    shares: Annotated[
        str, typer.Option("--splits", help="Shares of train, validation, test.")
    ] = "0.96,0.02,0.02",
    truth: Annotated[
        Path | None,
        typer.Option(
            help="truth.parquet of `phq synthesize`, or a Parquet of portrait_id, truth_camera, truth_pose: "
            "fills the truth_* columns."
        ),
    ] = None,
    permission: Annotated[list[Path] | None, PERMISSION] = None,
    shard_mb: Annotated[int, typer.Option(help="Size of a shard.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Pieces at once, on this machine.")] = 2,
    runner: Annotated[
        str, typer.Option(help="Who writes: inline (threads of this process), processes, ray or dask.")
    ] = "inline",
    address: Annotated[
        str, typer.Option(help="A Ray or Dask cluster that exists; it must see workspace and releases.")
    ] = "",
) -> None:
    """Make a release from the accepted portraits of a workspace.

    Example: phq release build --workspace portraits --version 1.0.0
    """
    from phq_data.release.build import ReleaseOptions
    from phq_data.release.build import build as make
    from phq_data.release.parts import running
    from phq_data.release.splits import SplitShares
    from phq_data.review.consensus import ConsensusRule
    from phq_data.sources import is_web_address
    from phq_data.workspace import Workspace

    if images not in ("all", "none"):
        raise typer.BadParameter(f"--images is all or none, not {images!r}")
    if not creator.isprintable():
        raise typer.BadParameter("--creator is one line of plain text: it holds a control character")
    if url and not is_web_address(url):
        raise typer.BadParameter(f"--url is an http or https address, not {url!r}")
    try:
        parts = [float(part) for part in shares.split(",")]
        if len(parts) != 3:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"--splits is three numbers such as 0.9,0.05,0.05, not {shares!r}") from None
    options = ReleaseOptions(
        name=name, created=date, unreviewed=unreviewed, images="none" if images == "none" else "all",
        rule=ConsensusRule(min_votes, min_share), shares=SplitShares(*parts), shard_bytes=shard_mb << 20,
        parent=parent, repack=repack, keep_duplicates=keep_duplicates, only_permitted=only_permitted,
        permissions=_permissions(permission), url=url, workers=workers,
        **({"creator": creator} if creator else {}),
    )  # fmt: skip
    target = releases or f"{workspace.rstrip('/')}/releases"
    opened = Workspace.open(workspace)
    known = None
    if truth is not None:
        from phq_data.release.truth import read as read_truth

        known = read_truth(truth, opened)
    with running(runner, workers, address) as run, _Progress() as progress:
        result = make(opened, target, version, options, truth=known, run=run, progress=progress.rows)
    _say_built(result)


def list_(
    releases: Annotated[str, RELEASES] = "releases", json_out: Annotated[bool, JSON_OUT] = False
) -> None:
    """The releases in a folder, oldest first."""
    from phq_data.release.catalogue import catalogue

    rows = catalogue(releases)
    if json_out:
        typer.echo(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    if not rows:
        typer.echo(f"no releases in {releases}")
        return
    typer.echo(
        f"{'version':<16}{'date':<12}{'portraits':>10}{'down':>6}  {'MiB':>9}  parent    digest        note"
    )
    for row in rows:
        typer.echo(
            f"{row.version:<16}{row.created:<12}{row.portraits:>10,}{row.taken_down:>6}  {row.mib:>9,.1f}  "
            f"{row.parent or '-':<9} {row.digest[:12]:<13} {row.note}"
        )


def stats(
    release: Annotated[str, typer.Argument(help="Folder or URL of a release.")],
    split: Annotated[str, typer.Option(help="Only this split.")] = "",
    json_out: Annotated[bool, JSON_OUT] = False,
) -> None:
    """What is in a release, in numbers."""
    from phq_data.release import reader
    from phq_data.release.stats import of_release

    opened = reader.open(release)
    found = of_release(opened, split or None)
    if json_out:
        typer.echo(json.dumps(found.to_dict()))
        return
    typer.echo(
        f"{opened.manifest.name} {opened.version}: {counted(found.rows, 'portrait')} of "
        f"{counted(found.photos, 'photo')}"
    )
    tables: dict[str, dict[str, Any]] = {
        "split": found.splits, "seen from": found.octants, "provider": found.providers,
        "license": found.licenses, "consent": found.consent, "screen for minors": found.ages,
        "body": found.bodies, "side": found.sizes, "codec": found.codecs,
        "elevation, degrees": found.pitch_degrees, "roll, degrees": found.roll_degrees,
        "photo pixels per pixel": found.effective_resolution,
    }  # fmt: skip
    for title, values in tables.items():
        if not values:
            continue
        text = "  ".join(
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:g}"
            for name, value in values.items()
        )
        typer.echo(f"{title:<24}{text}")


def verify(
    release: Annotated[str, typer.Argument(help="Folder or URL of a release.")],
    pixels: Annotated[bool, typer.Option("--pixels", help="Decode every image as well.")] = False,
    digest: Annotated[str, typer.Option(help="The manifest digest that you expect.")] = "",
    workers: Annotated[int, typer.Option(help="Files read at once.")] = 2,
) -> None:
    """Read every byte of a release and name what is wrong, by file and row."""
    from phq_data.release import reader
    from phq_data.release.verify import verify as check

    with _Progress() as progress:
        problems = check(release, pixels=pixels, workers=workers, on_bytes=progress.bytes)
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        typer.echo(f"{counted(len(problems), 'problem')} in {release}", err=True)
        raise typer.Exit(1)
    opened = reader.open(release, digest=digest or None)
    found = opened.manifest
    size = sum(entry.bytes for entry in found.entries) / 2**20
    looked = (
        "every image was decoded and compared with its columns pixels and mask_pixels (sha256 of what is "
        "decoded)"
        if pixels
        else "images were compared as bytes; --pixels decodes them, too"
    )
    typer.echo(
        f"{found.name} {found.version} is whole: {counted(found.rows, 'portrait')}, "
        f"{counted(len(found.entries), 'file')}, {size:,.1f} MiB; {looked}\ndigest {found.digest}"
    )


def diff(
    a: Annotated[str, typer.Argument(help="Folder or URL of the older release.")],
    b: Annotated[str, typer.Argument(help="Folder or URL of the newer one.")],
    out: Annotated[Path | None, typer.Option(help="Write the rows as Parquet.")] = None,
    rows: Annotated[int, typer.Option(help="How many rows to show.")] = 20,
    json_out: Annotated[bool, JSON_OUT] = False,
) -> None:
    """What changed from one release to another, row by row."""
    from phq_data.release import reader
    from phq_data.release.diff import diff as compare

    found = compare(reader.open(a), reader.open(b))
    if out is not None:
        found.save(out)
    counts = {"added": len(found.added), "removed": len(found.removed), "changed": len(found.changed)}
    if json_out:
        typer.echo(json.dumps({**counts, "repacked": found.repacked, "columns": found.columns()}))
        return
    typer.echo(
        f"{found.before} -> {found.after}: " + ", ".join(f"{n:,} {kind}" for kind, n in counts.items())
    )
    for name, count in found.columns().items():
        typer.echo(f"  {count:,} rows changed in {name}")
    for row in found.table.slice(0, rows).to_pylist():
        note = "taken down" if row["taken_down"] else ", ".join(row["columns"])
        typer.echo(f"  {row['change']:<8} {row['portrait_id']}  {note}")
    if found.table.num_rows > rows:
        typer.echo(f"  ... {found.table.num_rows - rows:,} more (--rows, or --out FILE.parquet)")


def takedown(
    releases: Annotated[str, RELEASES] = "releases",
    id_: Annotated[
        list[str] | None, typer.Option("--id", help="Portrait or photo id, or its first digits. Repeatable.")
    ] = None,
    url: Annotated[list[str] | None, typer.Option(help="URL of the photo or its page. Repeatable.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="Name or page of the author. Repeatable.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it will be public.")] = "",
    runs: Annotated[list[Path] | None, RUNS] = None,
) -> None:
    """Take photos down, each with all its portraits: readers leave them out at once, the next release drops
    them. With --runs, says which training runs and checkpoints saw them.
    """
    from phq_data.release.catalogue import catalogue
    from phq_data.release.takedown import take_all_down
    from phq_data.release.trace import trained_on

    taken: set[str] = set()
    given = {"id": id_, "url": url, "author": author}
    requests = [(kind, text) for kind, texts in given.items() for text in texts or []]
    versions: set[str] = set()
    for found in take_all_down(releases, requests, reason=reason):
        versions.update(found.versions)
        taken.update(found.entry.portraits)
        again = " (granted before)" if found.known else ""
        typer.echo(
            f"taken down{again}: {counted(len(found.entry.portraits), 'portrait')} of "
            f"{counted(len(found.entry.photos), 'photo')} ({found.kind} {found.asked})"
            + (f"; they are in {', '.join(found.versions)}" if found.versions else "")
        )
        if not found.versions:
            typer.secho(
                f"NOTHING MATCHED: no release in {releases} has a portrait of the {found.kind} "
                f"{found.asked!r}. If that is not what you meant, check how it is written in "
                "attribution.csv. It is remembered on the list: later releases leave it out.",
                err=True, bold=True,
            )  # fmt: skip
    if versions:
        typer.echo(
            f"Tell the copies: phq release push, for each of {', '.join(sorted(versions))}. Then build the "
            "next MAJOR version without them."
        )
        if runs:
            digests = {one.digest: one.version for one in catalogue(releases) if one.version in versions}
            release_trace.say_trained(trained_on(taken, digests, runs))
        else:
            typer.echo("Which training runs and checkpoints saw them: the same command with --runs FOLDER.")


def push(
    release: Annotated[str, typer.Argument(help="Folder or URL of a release.")],
    url: Annotated[str, typer.Argument(help="Where to: a folder, s3://…, gs://…, hf://datasets/…")],
    flat: Annotated[bool, typer.Option("--flat", help="To URL itself instead of URL/VERSION.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Read everything back and compare.")] = False,
    permission: Annotated[list[Path] | None, PERMISSION] = None,
) -> None:
    """Publish a release. The rights are checked again; an interrupted push goes on when run again."""
    from phq_data.release.transfer import push as send

    with _Progress() as progress:
        done = send(
            release,
            url,
            permissions=_permissions(permission),
            flat=flat,
            check=check,
            on_bytes=progress.bytes,
        )
    typer.echo(
        f"{done.url}: {done.sent} files sent ({done.bytes / 2**20:,.1f} MiB), {done.copied} copied there, "
        f"{done.kept} were there"
    )


def pull(
    url: Annotated[str, typer.Argument(help="URL of a release, or of a folder of releases with --version.")],
    releases: Annotated[str, RELEASES] = "releases",
    version: Annotated[str, typer.Option(help="Which version below URL.")] = "",
) -> None:
    """Bring a release here, or repair one. Files are checked as they arrive; half a file is continued."""
    from phq_data.release.transfer import pull as fetch

    with _Progress() as progress:
        done = fetch(url, releases, version=version, on_bytes=progress.bytes)
    typer.echo(f"{done.url}: {done.sent} files ({done.bytes / 2**20:,.1f} MiB), {done.kept} were there")


def fill(
    release: Annotated[str, typer.Argument(help="Folder or URL of a release without images.")],
    releases: Annotated[str, RELEASES] = "",
    photos: Annotated[list[Path] | None, typer.Option(help="Folder with photo files. Repeatable.")] = None,
    web: Annotated[bool, typer.Option("--web", help="Fetch photos from their recorded URLs.")] = False,
    contact: Annotated[str, typer.Option(help="Your mail address or page, sent to the servers.")] = "",
    permission: Annotated[list[Path] | None, PERMISSION] = None,
) -> None:
    """Put the images back into a release that came without, if you may have them."""
    from phq_data.release import fill as filling

    if not photos and not web:
        raise typer.BadParameter("say where the photos are: --photos FOLDER, or --web")
    if web and not contact:
        raise typer.BadParameter("--web asks for --contact: servers want to know who comes")
    fetchers = [filling.from_folders(photos)] if photos else []
    fetchers += [filling.from_web(contact)] if web else []
    beside = release.rstrip("/").rpartition("/")[0] or "."
    with _Progress() as progress:
        done = filling.fill(
            release, releases or beside, fetchers, permissions=_permissions(permission),
            on_rows=lambda count, total: progress.rows("filling", count, total),
        )  # fmt: skip
    typer.echo(f"{done.folder}: {done.filled:,} images filled")
    for reason, count in done.missing.items():
        typer.echo(f"  {count:,} stay empty: {reason.replace('_', ' ')}")


def _permissions(paths: list[Path] | None) -> tuple[Permission, ...]:
    from phq_data.release.rights import Permission

    return tuple(Permission.load(path) for path in paths or [])


def _say_built(result: ReleaseResult) -> None:
    manifest = result.manifest
    splits = ", ".join(f"{count:,} {name}" for name, count in manifest.counts().items())
    typer.echo(
        f"{result.folder}: {counted(manifest.rows, 'portrait')} ({splits}) in "
        f"{counted(len(manifest.shards), 'shard')}"
    )
    if result.changes is not None:
        changes = result.changes
        parent = (manifest.parent or {}).get("version")
        typer.echo(
            f"since {parent}: {changes.added:,} added, {changes.removed:,} removed ({changes.taken_down:,} "
            f"taken down), {changes.changed:,} changed; {changes.shards_copied} shards copied, "
            f"{changes.shards_written} written"
        )
    for reason, count in result.left_out.items():
        typer.echo(f"  {count:,} left out: {reason.replace('_', ' ')}")
    typer.echo(f"digest {manifest.digest}\nLook at it: {result.folder}/report.html")


class _Progress:
    """A line on the terminal that is rewritten; nothing in a file or pipe."""

    def __enter__(self) -> _Progress:
        self._shown = ""
        return self

    def __exit__(self, *unused: object) -> None:
        if self._shown:
            sys.stderr.write("\r" + " " * len(self._shown) + "\r")

    def rows(self, what: str, done: int, total: int) -> None:
        self._show(f"{what}: {done:,} of {total:,}")

    def bytes(self, done: int, total: int) -> None:
        self._show(f"{done / 2**20:,.0f} of {total / 2**20:,.0f} MiB")

    def _show(self, text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r" + text.ljust(len(self._shown)))
            sys.stderr.flush()
            self._shown = text
