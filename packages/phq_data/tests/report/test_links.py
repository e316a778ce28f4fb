"""Portraits of a report and of `phq inspect` are linked to the review, where its address is known."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from phq_data.cli.main import make_app
from phq_data.config import default
from phq_data.report.inspection import inspect, show
from phq_data.report.links import LinkError, review_address
from phq_data.report.page import write_report

URL = "https://review.example.org"


@pytest.mark.parametrize(
    "bad",
    [
        "review.example.org",
        "javascript:alert(1)",
        "ftp://a",
        f"{URL}/x",
        f"{URL}/?a",
        "http://[",
        "http://a:b",
    ],
)
def test_what_is_no_address_is_refused_and_named(bad):
    with pytest.raises(LinkError, match="no public URL"):
        review_address(bad)


def test_a_slash_at_the_end_is_no_path():
    assert review_address(f"{URL}/") == URL


def test_the_report_links_every_portrait_or_none(make_workspace):
    made = make_workspace(count=4, rejected=1)
    text = Path(write_report(made.workspace, review=URL)).read_text()
    rows = [row["portrait_id"] for row in made.portraits]
    assert all(f'href="{URL}/?portrait={one}"' in text for one in rows)
    assert "?portrait=" not in Path(write_report(made.workspace)).read_text()


def test_an_inspection_tells_where_the_review_shows_it(make_workspace):
    made = make_workspace(count=2)
    one = made.portraits[0]["portrait_id"]
    text = io.StringIO()
    show(inspect(made.workspace, one), Console(file=text, width=60), default().screen, review=URL)
    assert f"{URL}/?portrait={one}\n" in text.getvalue()
    command = ["inspect", one, "-w", str(made.workspace.url), "--no-image", "--json"]
    answer = CliRunner().invoke(make_app(), [*command, "--review-url", URL])
    assert json.loads(answer.output)["review"] == {one: f"{URL}/?portrait={one}"}
    assert "review" not in json.loads(
        CliRunner().invoke(make_app(), command, env={"PHQ_REVIEW_PUBLIC_URL": ""}).output
    )
