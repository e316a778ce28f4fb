"""What a user writes as SOURCE, to a source."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import BinaryIO

from phq_data.sources import Source, SourceError, SourceFile

POSSIBLE = "a folder or file that exists, 'samples', or 'synthetic:COUNT[@SEED]'"
_SYNTHETIC = re.compile(r"synthetic:(\d{1,9})(?:@(\d{1,18}))?")


def resolve(spec: str) -> Source:
    """The source that `spec` names: an existing folder or file, `samples` or `synthetic:COUNT[@SEED]`.

    A path that exists comes first: `./samples` and `samples` are the folder where there is one. Raises
    `SourceError`, saying what is possible.
    """
    if not spec.strip():
        raise SourceError(f"an empty source; a source is {POSSIBLE}")
    if _exists(spec):
        from phq_data.sources.folder import FolderSource

        return FolderSource(spec)
    if spec == "samples":
        from phq_data.sources.samples import SamplesSource

        return SamplesSource()
    if spec == "synthetic" or spec.startswith("synthetic:"):
        return _synthetic(spec)
    raise SourceError(f"there is no source '{_shown(spec)}'{_hint(spec)}; a source is {POSSIBLE}")


def open_uri(uri: str) -> BinaryIO:
    """The bytes behind a `SourceFile.uri` of any source, without the source: for photos that a workspace
    refers to instead of copying them. Other addresses go to fsspec. Raises `OSError`.
    """
    if uri.startswith("file:"):
        from phq_data.sources.folder import FolderSource

        return FolderSource.open_uri(uri)
    try:
        if uri.startswith("sample:"):
            from phq_data.sources.samples import SamplesSource

            return SamplesSource().open(SourceFile(uri))
        if uri.startswith("synthetic:"):
            return _synthetic(uri.partition("#")[0]).open(SourceFile(uri))
    except SourceError as error:
        raise FileNotFoundError(str(error)) from error
    import fsspec

    stream: BinaryIO = fsspec.open(uri, "rb").open()
    return stream


def _synthetic(spec: str) -> Source:
    match = _SYNTHETIC.fullmatch(spec)
    count = int(match[1]) if match else 0
    if not match or count < 1:
        raise SourceError(
            f"'{_shown(spec)}' is no number of synthetic photos; write synthetic:20 or, to choose the seed, "
            "synthetic:20@7"
        )
    from phq_data.sources.synthetic import SyntheticSource

    return SyntheticSource(spec, count, int(match[2] or 0))


def _exists(spec: str) -> bool:
    try:
        return Path(spec).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a name too long, a null byte, a user without a home
        return False


def _hint(spec: str) -> str:
    """`; did you mean ...?` where something like it exists, else nothing."""
    words = difflib.get_close_matches(spec.partition(":")[0].lower(), ["samples", "synthetic"], n=1)
    if words:
        return f" (did you mean '{words[0] if words[0] == 'samples' else 'synthetic:COUNT'}'?)"
    try:
        path = Path(spec).expanduser()
        names = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except (OSError, ValueError, RuntimeError):
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean '{_shown(str(path.parent / close[0]))}'?)" if close else ""


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
