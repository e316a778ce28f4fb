"""Command lines of version 1 still mean what they meant, and each renamed option is told once."""

from __future__ import annotations

import pytest

from portraitgan.commands.former_options import RENAMED, translated
from portraitgan.commands.main import main


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("sample RUN a.png --like abc --data D", "sample RUN a.png --match-portrait abc --data D"),
        ("sample RUN a.png --yaw -60 0 6.5e1 --size 8", "sample RUN a.png --yaw -60,0,6.5e1 --size 8"),
        (
            "video RUN a.mp4 --yaw 3 --key-pose 0 0 0 0 30 0",
            "video RUN a.mp4 --yaw 3 --key-pose 0,0,0,0,30,0",
        ),
        ("invert RUN OUT --tune", "invert RUN OUT --pti-steps 350"),
        ("invert RUN OUT --tune --seed 1", "invert RUN OUT --pti-steps 350 --seed 1"),
        ("invert RUN OUT --portrait A B C --seed 1", "invert RUN OUT --portrait A,B,C --seed 1"),
        ("invert RUN OUT --portrait A,B --data D", "invert RUN OUT --portrait A,B --data D"),
        ("invert --portrait A RUN OUT", "invert --portrait A RUN OUT"),  # before it was so, too
        ("invert RUN OUT --portrait", "invert RUN OUT --portrait"),
        ("invert RUN OUT --tune 20", "invert RUN OUT --pti-steps 20"),
        ("metrics RUN --people=9 --judge OTHER", "metrics RUN --num-samples=9 --pose-discriminator OTHER"),
        ("train --change --other-data", "train --allow-config-change --allow-data-change"),
        ("train --set average.ramp=0.1 --set seed=3", "train --set ema.ramp=0.1 --set seed=3"),
        ("", ""),
    ],
)
def test_former_command_lines(given: str, wanted: str) -> None:
    said: list[str] = []
    assert translated(given.split(), said.append) == wanted.split()
    former = [part.split("=")[0] for part in given.split()]
    renamed = [part for part in former if part in RENAMED.get(former[0] if former else "", {})]
    assert len(said) == len(renamed) + ("average." in given)
    assert all(" is now --" in line for line in said)


def test_the_notice_is_on_stderr_and_help_knows_todays_names_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "nowhere", "a.png", "--like", "abc"]) == 1
    assert capsys.readouterr().err.splitlines()[0] == "--like is now --match-portrait"
    for command, names in RENAMED.items():
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert not [name for name in names if f"{name} " in shown]
        assert all(name in shown for name in names.values())
