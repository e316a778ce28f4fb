"""Command lines of version 1: options that were renamed; and lists that follow an option freely."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

RENAMED: Mapping[str, Mapping[str, str]] = {
    "sample": {"--like": "--match-portrait"},
    "invert": {"--tune": "--pti-steps"},
    "metrics": {"--people": "--num-samples", "--judge": "--pose-discriminator"},
    "train": {"--change": "--allow-config-change", "--other-data": "--allow-data-change"},
}
"""By command: former option to today's. Each use is told in one line."""
LISTS: Mapping[str, str] = {"sample": "--yaw", "video": "--key-pose"}
"""By command: an option whose numbers may also be written apart, as in `--yaw -60 0 60`."""
NAMES: Mapping[str, str] = {"invert": "--portrait"}
"""By command: an option whose names may also be written apart, after what is no option: MODEL and OUT."""
DEFAULT_PTI_STEPS = "350"
"""What `--pti-steps` without a number stands for: the steps that the official code names."""
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


def translated(arguments: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """The same command line in today's words; `say` hears of every former option."""
    if not arguments:
        return []
    command, *rest = arguments
    names = RENAMED.get(command, {})
    done, waiting = [command], list(rest)
    while waiting:
        name, equals, value = waiting.pop(0).partition("=")
        if name in names:
            say(f"{name} is now {names[name]}")
            name = names[name]
        if command == "train" and name == "--set" and waiting and not equals:
            waiting[0] = _current_setting(waiting[0], say)
        done.append(name + equals + value)
        if equals:
            continue
        numbers = _leading_numbers(waiting)
        if name == NAMES.get(command) and len(done) > 3 and not any(one[:1] == "-" for one in done[1:3]):
            more = list(itertools.takewhile(lambda one: not one.startswith("-"), waiting))
            del waiting[: len(more)]
            done += [",".join(more)] if more else []
        elif name == LISTS.get(command) and numbers:
            done.append(",".join(numbers))
            del waiting[: len(numbers)]
        elif name == "--pti-steps" and not numbers:
            done.append(DEFAULT_PTI_STEPS)
    return done


def _current_setting(assignment: str, say: Callable[[str], None]) -> str:
    """`PATH=VALUE` with today's names of the config's sections."""
    from portraitgan.training.config import RENAMED as SECTIONS

    section, dot, rest = assignment.partition(".")
    if not dot or section not in SECTIONS:
        return assignment
    say(f"--set {section}.… is now --set {SECTIONS[section]}.…")
    return f"{SECTIONS[section]}.{rest}"


def _leading_numbers(arguments: Sequence[str]) -> list[str]:
    count = 0
    while count < len(arguments) and _NUMBER.fullmatch(arguments[count]):
        count += 1
    return list(arguments[:count])
