"""What several pages of the app share: tiles of portraits, colors, headings, errors."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from annotator_app.app.client import LoginError, Service, ServiceError

STATES = ("accepted", "rejected", "disputed", "undecided")
COLORS = ("#1d6f93", "#c9761a", "#7a4fa3", "#8d9299")  # in the order of `STATES`; seen on light and dark
POOLS = {
    None: "all", "kept": "kept by the screening", "screened_out": "rejected by the screening",
    "can_be_saved": "can be saved: only the label is doubted", "duplicates": "near-duplicates",
    "age_unsure": "perhaps a minor: a person decides",
}  # fmt: skip
"""What the screening made of a portrait, in words."""
_SIGNS = {"accepted": "✓", "rejected": "×", "disputed": "?", "undecided": ""}
_PAST = {"accept": "accepted", "reject": "rejected", "flag": "flagged"}

STYLE = """
<style>
.block-container { padding: 3.6rem 2rem 2rem; max-width: 86rem; }
h1 { font-size: 1.9rem !important; letter-spacing: -.02em; padding-bottom: .2rem !important; }
h2 { font-size: 1.3rem !important; } h3 { font-size: 1.05rem !important; }
.phq-tile { position: relative; border-radius: .5rem; overflow: hidden; background: #8882; aspect-ratio: 1; }
.phq-tile img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; display: block; }
.phq-tile b { position: absolute; right: .3rem; top: .3rem; width: 1.35rem; line-height: 1.35rem; color: #fff;
  text-align: center; border-radius: .35rem; font: 700 .85rem/1.35rem system-ui, sans-serif; }
.phq-tile b:empty { display: none; }
.phq-grid { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.phq-grid p, .phq-under { margin: .15rem 0 0; font-size: .78rem; line-height: 1.3; opacity: .75;
  overflow-wrap: anywhere; }
.phq-muted { opacity: .7; }
</style>
"""


def page(title: str, show: Callable[[Service], None]) -> Callable[[], None]:
    """A page's function for Streamlit: with its title, and with problems told in a sentence."""

    def shown() -> None:
        service = Service.of_this_page()
        if title:
            st.title(title)
        try:
            show(service)
        except LoginError:
            st.info("Log in to see this. The app and the review page share the login.")
            st.link_button("Log in", f"{service.public}/login", type="primary")
        except ServiceError as problem:
            st.error(sentence(str(problem)))

    shown.__name__ = (title or "review").lower().replace(" ", "_").replace("-", "_")
    return shown


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def tile(shown: Mapping[str, Any], *, mesh: bool) -> str:
    """HTML of one portrait, with its mesh if that is wanted, and its state."""
    name = f"portrait {shown['portrait_id'][:8]}, {shown['state']}"
    over = f'<img src="{shown["overlay"]}" alt="" style="opacity:.5">' if mesh else ""
    return (
        f'<div class="phq-tile" title="{name}"><img src="{shown["thumb"]}" alt="{name}">{over}'
        f'<b style="background:{COLORS[STATES.index(shown["state"])]}">{_SIGNS[shown["state"]]}</b></div>'
    )


def grid(service: Service, tiles: Sequence[Mapping[str, Any]], *, mesh: bool) -> None:
    """A contact sheet."""
    cells = [
        f"<div>{tile(shown, mesh=mesh)}<p>{link(service, shown['portrait_id'])} · "
        f"error probability {shown['error_probability']:.2f}"
        f"{'' if shown['pool'] == 'kept' else '<br>' + POOLS[shown['pool']]}"
        f"{_votes(shown['votes'])}</p></div>"
        for shown in tiles
    ]
    st.html(f'<div class="phq-grid">{"".join(cells)}</div>')


def link(service: Service, portrait_id: str) -> str:
    """HTML of a link to a portrait on the review page, in a tab of its own."""
    address = html.escape(service.link(portrait_id), quote=True)
    return f'<a href="{address}" target="_blank" rel="noopener">{portrait_id[:8]}</a>'


def _votes(votes: Sequence[Mapping[str, Any]]) -> str:
    said = [
        html.escape(f"{vote['reviewer']}: {_PAST.get(vote['verdict'], vote['verdict'])}")
        + (html.escape(f" ({vote['reason']})") if vote["reason"] else "")
        + (f"<br>“{html.escape(vote['note'])}”" if vote["note"] else "")
        for vote in votes
    ]
    return "".join(f"<br>{one}" for one in said)


def progress_chart(rows: Sequence[Mapping[str, Any]], title: str, *, height: int = 330) -> None:
    """Stacked bars of what became of portraits, in the order of the rows."""
    long = pd.DataFrame(
        [
            {"name": row["name"], "state": state, "portraits": row[state], "order": place}
            for row in rows
            for place, state in enumerate(STATES)
        ]
    )
    chart = (
        alt.Chart(long)
        .mark_bar()
        .encode(
            x=alt.X("name:N", sort=[row["name"] for row in rows], title=title, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("portraits:Q", title="portraits"),
            color=alt.Color(
                "state:N",
                scale=alt.Scale(domain=list(STATES), range=list(COLORS)),
                legend=alt.Legend(orient="top", title=None),
            ),
            order="order:Q",
            tooltip=["name", "state", "portraits"],
        )
        .properties(height=height)
    )
    st.altair_chart(chart, width="stretch")


def bars(counts: Mapping[str, float], title: str, *, color: str = COLORS[0]) -> None:
    """Horizontal bars, largest first."""
    frame = pd.DataFrame({"name": list(counts), "value": list(counts.values())})
    chart = (
        alt.Chart(frame)
        .mark_bar(color=color)
        .encode(
            x=alt.X("value:Q", title=title),
            y=alt.Y("name:N", sort="-x", title=None, axis=alt.Axis(labelLimit=220, labelOverlap=False)),
            tooltip=["name", "value"],
        )
        .properties(height=70 + 26 * len(frame))
    )
    st.altair_chart(chart, width="stretch")


def days(counts: Mapping[str, int]) -> None:
    """Decisions by day, the days without any included."""
    frame = pd.DataFrame({"day": pd.to_datetime(list(counts)), "decisions": list(counts.values())})
    last, half = frame["day"].max(), pd.Timedelta(hours=12)  # room for half a bar at both ends
    scale = alt.Scale(domain=[last - pd.Timedelta(days=20) - half, last + half])
    chart = (
        alt.Chart(frame)
        .mark_bar(color=COLORS[0], size=14, clip=True)
        .encode(
            x=alt.X("day:T", title=None, scale=scale, axis=alt.Axis(format="%d %b")),
            y=alt.Y("decisions:Q", title="decisions"),
            tooltip=["day", "decisions"],
        )
        .properties(height=220)
    )
    st.altair_chart(chart, width="stretch")


def share(value: float | None) -> str:
    """A share in percent; a dash when there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 2) -> str:
    """A number; a dash when there is none."""
    return "–" if value is None else f"{value:.{digits}f}"
