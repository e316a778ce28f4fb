from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from phq_data import records
from phq_data.config import DedupConfig
from phq_data.records import Duplicate
from phq_data.stages.dedup import Candidate, crowded, duplicates


def row(name: str, phash: int, photo: str | None = None, pixels: float = 1.0, kept: bool = True) -> Candidate:
    return Candidate(
        portrait_id=name, photo_id=photo or name, phash=phash, effective_resolution=pixels, kept=kept
    )


def flip(value: int, *bits: int) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def crowd(count: int, seed: int = 0) -> np.ndarray:
    """Hashes in clumps: some equal, some a few bits apart, most far."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 1 << 63, count // 4 + 1).astype(np.uint64)
    hashes = centres[rng.integers(0, len(centres), count)]
    for _ in range(8):
        bit = rng.integers(0, 64, count).astype(np.uint64)
        hashes = np.where(rng.random(count) < 0.3, hashes ^ (np.uint64(1) << bit), hashes)
    return hashes


def test_no_member_of_a_cluster_is_outside_the_crowd() -> None:
    hashes = crowd(500, 3)
    rows = [row(f"{i:03d}", int(h)) for i, h in enumerate(hashes)]
    near = crowded(hashes, DedupConfig(6))
    assert 0 < near.sum() < len(rows)
    some = [one for one, yes in zip(rows, near, strict=True) if yes]
    assert duplicates(some, DedupConfig(6)) == duplicates(rows, DedupConfig(6))


def test_representative_is_the_best_and_distances_are_to_it() -> None:
    rows = [
        row("a", 0, pixels=0.5),
        row("b", flip(0, 1, 2), pixels=2.0),
        row("c", flip(0, 1, 2, 40), pixels=2.0),
        row("d", 0xFFFF_0000_FFFF_0000),
    ]
    found = duplicates(rows, DedupConfig(6))
    assert found == [
        Duplicate(portrait_id="a", cluster="a", representative=False, distance=2),
        Duplicate(portrait_id="b", cluster="a", representative=True, distance=0),
        Duplicate(portrait_id="c", cluster="a", representative=False, distance=1),
    ]
    records.to_table(Duplicate, found)
    rows[1] = dataclasses.replace(rows[1], kept=False)
    assert [r.portrait_id for r in duplicates(rows, DedupConfig(6)) if r.representative] == ["c"]


def test_order_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    hashes = crowd(400, 5)
    rows = [
        row(f"{i:04d}", int(h), photo=f"p{rng.integers(0, 150)}", pixels=float(rng.integers(1, 4)))
        for i, h in enumerate(hashes)
    ]
    expected = duplicates(rows, DedupConfig(6))
    assert expected
    for seed in range(3):
        shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
        assert duplicates(shuffled, DedupConfig(6)) == expected


def test_two_people_of_one_photo_are_never_duplicates() -> None:
    """Twins side by side, and a re-encoded copy of the photo: each matches its own copy."""
    left, right = 0b1111, 0b11110001
    rows = [
        row("l1", left, "one", 2.0),
        row("r1", right, "one", 2.0),
        row("l2", flip(left, 60), "two"),
        row("r2", flip(right, 61), "two"),
    ]
    found = {r.portrait_id: r.cluster for r in duplicates(rows, DedupConfig(6))}
    assert found == {"l1": "l1", "l2": "l1", "r1": "r1", "r2": "r1"}
    clusters: dict[str, list[str]] = {}
    many = [row(f"{i:03d}", int(h), f"p{i % 40}") for i, h in enumerate(crowd(300, 2))]
    photo_of = {r.portrait_id: r.photo_id for r in many}
    for r in duplicates(many, DedupConfig(6)):
        clusters.setdefault(r.cluster, []).append(photo_of[r.portrait_id])
    assert clusters and all(len(photos) == len(set(photos)) for photos in clusters.values())


def test_chains_do_not_join_different_pictures() -> None:
    """Each picture is near the next, but the ends are far apart."""
    rows = [row(f"{i:02d}", (1 << (4 * i)) - 1) for i in range(16)]
    found = duplicates(rows, DedupConfig(6))
    by_cluster: dict[str, list[Any]] = {}
    for r in found:
        by_cluster.setdefault(r.cluster, []).append(r)
    assert len(by_cluster) > 3
    assert all(r.distance <= 6 for r in found)
    assert all(sum(r.representative for r in members) == 1 for members in by_cluster.values())


def test_no_rows_and_no_duplicates() -> None:
    assert duplicates([], DedupConfig()) == []
    assert duplicates([row("a", 0)], DedupConfig()) == []


def test_a_thousand_equal_pictures_are_one_cluster() -> None:
    found = duplicates([row(f"{i:04d}", 99) for i in range(1000)], DedupConfig())
    assert len(found) == 1000 and {r.cluster for r in found} == {"0000"}
