"""The consistency report as text."""

from __future__ import annotations

from typing import Any

from phq_data.evaluation.equivariance import ANGLES, KINDS

SHOWN = 10
"""Unread files that the table names."""


def table(numbers: dict[str, Any]) -> str:
    """`summary` for people: medians and 95th percentiles in degrees."""
    head = f"{'':<11}" + "".join(f" {name[:-4]:>13}" for name in ANGLES) + f" {'flipped':>8} {'lost':>7}"
    lines = [
        f"{numbers['photos']} photos, {numbers['photos_without_people']} of them without people large enough "
        f"for a portrait; {numbers['unread_files']} other files"
    ]
    unread = numbers["unread"]
    lines += [f"  {one['file']}: {one['reason']}" for one in unread[:SHOWN]]
    if len(unread) > SHOWN:
        lines.append(f"  and {len(unread) - SHOWN} more")
    blocks = (("large enough for a portrait", numbers), ("kept by the screening", numbers["kept"]))
    for title, block in blocks:
        lines += ["", f"{block['count']} people {title}", head, "-" * len(head)]
        for kind in KINDS:
            row = block[kind]
            shares = [row["flipped_share"], row["lost_share"]]
            text = ["-" if share is None else f"{share:.1%}" for share in shares]
            cells = "".join(f" {_cell(row.get(name)):>13}" for name in ANGLES)
            lines.append(f"{kind:<11}{cells} {text[0]:>8} {text[1]:>7}")
    lines.append("Change of the label in degrees, median / 95th percentile, of people found again.")
    if numbers["worst"]:
        lines += ["", "The worst:"]
        lines += [
            f"  {c['kind']:<9} yaw {c['yaw']:6.1f} changed by {c['yaw_deg']:5.1f}, pitch by "
            f"{c['pitch_deg']:4.1f}; {'kept' if c['kept'] else 'not kept'}; "
            f"person {c['order']} of {c['photo']}"
            for c in numbers["worst"]
        ]
    return "\n".join(lines)


def _cell(spread: dict[str, float | None] | None) -> str:
    if spread is None or spread["median"] is None:
        return "-"
    return f"{spread['median']:.1f} / {spread['p95']:.1f}"
