import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data import schema
from phq_data.errors import ReleaseError
from phq_data.release import reader, truth
from phq_data.sources.synthetic import synthesize
from phq_data.synthesis.truth import read_truth

from .test_cli import phq


@pytest.fixture(scope="module")
def photographed(tmp_path_factory):
    """Truth of synthetic photos, one of which shows several people."""
    folder = tmp_path_factory.mktemp("truth")
    synthesize(folder, 6, 21)
    path = folder / "truth.parquet"
    assert max(row["people"] for row in read_truth(path, ["people"]).to_pylist()) > 1
    return path


def detected(maker, rows, lose):
    """The maker's workspace with every true person of the photos detected, except those in `lose`."""
    photos = {}
    for row in rows:
        photos.setdefault(row["photo_id"], []).append(row)
    ids = maker.add(
        *(maker.photo(photo_id=photo, people=len(people)) for photo, people in photos.items()), part=0
    )
    people = []
    for photo, group in photos.items():
        # Detected in the other order than the truth has them.
        for number, row in enumerate(reversed(group)):
            if (photo, row["order"]) in lose:
                continue
            points = np.array(row["keypoints"]).reshape(17, 3) * (1, 1, 0) + (2, 1, 0.9)
            people.append(
                {
                    "person_id": f"person-{photo}-{number}", "photo_id": photo, "detector": "test",
                    "order": number, "box": [0.0, 0.0, 1.0, 1.0], "keypoints": points.ravel().tolist(),
                    "score": 1.0, "photo_width": 64, "photo_height": 64,
                }
            )  # fmt: skip
    maker.workspace.write_part("tables/people", 0, schema.to_table("people", people), "test")
    return dict(zip([(p, n) for p, group in photos.items() for n in range(len(group))], ids, strict=True))


@pytest.mark.slow
def test_every_portrait_gets_the_truth_of_its_own_person(maker, photographed):
    rows = read_truth(photographed).to_pylist()
    lost = (rows[0]["photo_id"], rows[0]["order"])
    portraits = detected(maker, rows, {lost})
    known = truth.read(photographed, maker.workspace)
    assert len(known) == len(rows) - 1
    for row in rows:
        if (row["photo_id"], row["order"]) == lost:
            continue
        portrait = portraits[row["photo_id"], row["people"] - 1 - row["order"]]
        assert known[portrait] == {"truth_camera": row["camera"], "truth_pose": row["pose"]}


@pytest.mark.slow
def test_the_command_writes_the_columns(maker, tmp_path):
    ids = maker.add(maker.photo(), maker.photo())
    table = pa.table(
        {
            "portrait_id": [ids[1]],
            "truth_camera": pa.array([[0.5] * 25], pa.list_(pa.float64())),
            "truth_pose": [[0.25] * 6],
        }
    )
    pq.write_table(table, tmp_path / "known.parquet")
    known = tmp_path / "known.parquet"
    phq("release", "build", "-w", tmp_path / "ws", "--version", "1.0.0", "--unreviewed", "--truth", known)
    release = reader.open(tmp_path / "ws" / "releases" / "1.0.0")
    assert release.find(ids[1])["truth_pose"] == [0.25] * 6
    assert release.find(ids[0])["truth_pose"] is None


@pytest.mark.parametrize("what", ["missing", "other columns", "wrong length", "other photos"])
def test_a_file_that_knows_nothing_is_refused(maker, tmp_path, what):
    maker.add(maker.photo())
    path = tmp_path / "known.parquet"
    rows = {"portrait_id": ["a"], "truth_camera": [[0.5] * 25], "truth_pose": [[0.0] * 6]}
    if what == "other columns":
        rows.pop("truth_pose")
    if what == "wrong length":
        rows["truth_pose"] = [[0.0] * 7]
    if what != "missing":
        pq.write_table(pa.table(rows), path)
    with pytest.raises(ReleaseError, match=r"known\.parquet"):
        truth.read(path, maker.workspace)
