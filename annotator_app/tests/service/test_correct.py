"""The contract of the correction: the rig, a label, a fit from a start, the log of corrections."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from phq_data.review.decisions import ulid

from .conftest import queue

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
    st.lists(st.floats(), max_size=26),
)  # fmt: skip


def correction(portrait, label, kind="correct", /, **more):
    """A correction as the page sends it."""
    found = {
        "correction_id": ulid(), "kind": kind, "portrait_id": portrait, "label": label, "undoes": None,
        "note": "", "seconds": 4.2, "client_time": int(time.time() * 1000), "client": "page/test",
    }  # fmt: skip
    return {**found, **more}


def send(client, *given):
    answer = client.post("/api/corrections", json={"corrections": list(given)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def label_of(client, portrait):
    answer = client.get(f"/api/portraits/{portrait}/label")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def portrait(client):
    return queue(client, 1)[0]["portrait_id"]


@pytest.fixture
def label(client, portrait):
    return label_of(client, portrait)["label"]


def test_the_rig_is_the_file_and_is_kept_for_ever(client, folder):
    item = queue(client, 1)[0]
    answer = client.get(f"/api/rig/{item['rig_version']}")
    assert answer.content == (folder / "rig.safetensors").read_bytes()
    assert {"vertices", "faces", "weights", "head_joint", "landmarks"} <= set(load(answer.content))
    assert "immutable" in answer.headers["cache-control"]
    again = client.get(f"/api/rig/{item['rig_version']}", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    assert client.get("/api/rig/00ff").status_code == 404


def test_a_label_says_where_the_rig_lies(client, portrait):
    found = label_of(client, portrait)
    item = client.get(f"/api/items/{portrait}").json()
    assert found["label"]["window"] == item["window"] and len(found["label"]["camera"]) == 25
    assert found["correctable"] and found["why"] == "" and found["corrections"] == []
    assert (found["state"], found["waits"]) == ("none", False)
    assert client.get(f"/api/portraits/{'f' * 32}/label").status_code == 404


def test_a_correction_is_saved_once_and_stands(client, portrait, label, folder):
    one = correction(portrait, label, note="the shoulders")
    assert send(client, one) == {"saved": [one["correction_id"]], "known": [], "refused": []}
    assert send(client, one)["known"] == [one["correction_id"]]
    found = label_of(client, portrait)
    assert [row["correction_id"] for row in found["corrections"]] == [one["correction_id"]]
    assert found["corrections"][0]["label"] == label and found["corrections"][0]["reviewer"] == "ann"
    assert (found["state"], found["waits"]) == ("holds", True)
    for _ in range(100):  # it comes to the workspace's tables without being asked
        if (folder / "tables" / "corrections").exists():
            break
        time.sleep(0.05)
    assert (folder / "tables" / "corrections" / "part-00000.parquet").exists()


def test_undos_take_back_the_last_or_the_named_one(client, portrait, label):
    first, second, third = (correction(portrait, label) for _ in range(3))
    send(client, first, second, third)
    undo = correction(portrait, None, "undo", undoes=second["correction_id"])
    last = correction(portrait, None, "undo")
    assert send(client, undo, last)["saved"] == [undo["correction_id"], last["correction_id"]]
    assert label_of(client, portrait)["state"] == "holds"  # the first still stands
    assert send(client, correction(portrait, None, "undo"))["refused"] == []
    assert label_of(client, portrait)["state"] == "none"
    (refused,) = send(client, correction(portrait, None, "undo"))["refused"]
    assert "take back" in refused["why"]


def spoilt(label, **changes):
    return {**{name: list(values) for name, values in label.items()}, **changes}


def test_what_can_be_no_label_is_refused_with_a_sentence(client, portrait, label):
    camera = label["camera"]
    mirrored = [-camera[0], *camera[1:4], -camera[4], *camera[5:8], -camera[8], *camera[9:]]
    behind = [*camera[:3], -camera[3], *camera[4:7], -camera[7], *camera[8:11], -camera[11], *camera[12:]]
    bad = {
        "finite": spoilt(label, camera=[float("nan"), *camera[1:]]),
        "rotation": spoilt(label, camera=mirrored),
        "behind": spoilt(label, camera=behind),
        "window": spoilt(label, window=[0, 0, -5]),
        "neck and head": spoilt(label, pose=[9, 0, 0, 0, 0, 0]),
        "square pixels": spoilt(label, camera=[*camera[:16], 99, *camera[17:]]),
        "has a label": None,
    }
    given = [correction(portrait, one) for one in bad.values()]
    good = correction(portrait, label)
    body = json.dumps({"corrections": [*given, good]})  # NaN and all, as a careless client writes it
    answer = client.post("/api/corrections", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["saved"] == [good["correction_id"]]  # nothing else is lost
    for word, refused in zip(bad, answer.json()["refused"], strict=True):
        assert word in refused["why"], refused
    short = client.post(
        "/api/corrections", json={"corrections": [correction(portrait, {**label, "pose": []})]}
    )
    assert short.status_code == 422


def test_two_tabs_do_not_overwrite_each_other(client, portrait, label):
    first = correction(portrait, label, over="")
    second = correction(portrait, label, over="")
    answer = send(client, first, second)
    assert answer["saved"] == [first["correction_id"]]
    assert answer["refused"][0]["elsewhere"] and "elsewhere" in answer["refused"][0]["why"]
    third = correction(portrait, label, over=first["correction_id"])
    assert send(client, third)["saved"] == [third["correction_id"]]


def test_an_id_of_another_correction_and_an_unknown_portrait(client, portrait, label):
    one = correction(portrait, label)
    send(client, one)
    other = {**one, "label": {**label, "pose": [0.3, 0, 0, 0, 0, 0]}}
    lost = correction("f" * 32, label)
    whys = [refused["why"] for refused in send(client, other, lost)["refused"]]
    assert "another correction" in whys[0] and "no such portrait" in whys[1]


def test_a_portrait_without_its_original_cannot_be_corrected(client, portrait, label, folder):
    for photo in (folder / "photos").rglob("*.jpg"):
        photo.unlink()
    found = label_of(client, portrait)
    assert not found["correctable"] and "original" in found["why"]
    (refused,) = send(client, correction(portrait, label))["refused"]
    assert refused["why"] == found["why"]


def test_where_nothing_was_fitted_a_snap_says_so(client, portrait, label):
    answer = client.post(f"/api/portraits/{portrait}/snap", json={"label": label})
    assert answer.status_code == 409 and "fit" in answer.json()["detail"]
    bad = client.post(f"/api/portraits/{portrait}/snap", json={"label": {**label, "window": [0, 0, 0]}})
    assert bad.status_code == 422


def test_a_reviewer_sees_own_corrections_and_cannot_adjudicate(start, folder):
    client = start(password="together")
    client.post("/api/login", json={"name": "Bo", "password": "together"})
    portrait = queue(client, 1)[0]["portrait_id"]
    label = label_of(client, portrait)["label"]
    ruling = correction(portrait, label, client="adjudication/page")
    assert "lead" in send(client, ruling)["refused"][0]["why"]
    mine = correction(portrait, label)
    assert send(client, mine)["saved"] == [mine["correction_id"]]
    client.post("/api/login", json={"name": "Cy", "password": "together"})
    found = label_of(client, portrait)
    assert found["corrections"] == [] and found["state"] == "holds"


def test_a_lead_is_told_which_corrections_are_own_and_what_settles(start):
    client = start()
    portrait = queue(client, 1)[0]["portrait_id"]
    label = label_of(client, portrait)["label"]
    client.post("/api/login", json={"name": "Bo", "password": ""})
    send(client, correction(portrait, label))
    client.cookies.clear()  # ann, a lead
    assert [row["own"] for row in label_of(client, portrait)["corrections"]] == [False]
    assert not label_of(client, portrait)["settles"]
    x, y, side = label["window"]
    moved = {**label, "window": [x, y, side / 1.3]}
    send(client, correction(portrait, moved, over=""))
    found = label_of(client, portrait)
    assert [row["own"] for row in found["corrections"]] == [False, True]
    assert (found["state"], found["settles"]) == ("disputed", True)
    ruling = correction(portrait, moved, client="adjudication/page")
    assert send(client, ruling)["saved"] == [ruling["correction_id"]]
    found = label_of(client, portrait)
    assert (found["state"], found["settles"]) == ("holds", True)  # what comes later must settle, too


NAMES = (
    "correction_id", "kind", "portrait_id", "label", "undoes", "note", "seconds", "client_time", "client",
    "over", "other",
)  # fmt: skip


@pytest.fixture(scope="module")
def one_of_shared(shared):
    """A portrait of the shared service, and its label."""
    portrait = queue(shared, 1)[0]["portrait_id"]
    return portrait, label_of(shared, portrait)["label"]


@settings(max_examples=80, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3),
    part=st.sampled_from(["camera", "pose", "window"]),
    numbers=st.one_of(st.none(), st.lists(st.floats(), max_size=26)),
)
def test_whatever_is_sent_is_saved_or_told_and_never_breaks(shared, one_of_shared, changes, part, numbers):
    portrait, label = one_of_shared
    sent = correction(portrait, label) | changes
    if isinstance(sent["label"], dict) and numbers is not None:
        sent["label"] = {**label, part: numbers}
    body = json.dumps({"corrections": [sent]})
    headers = {"content-type": "application/json"}
    answer = shared.post("/api/corrections", content=body, headers=headers)
    assert answer.status_code in (200, 422), answer.text
    found = label_of(shared, portrait)  # what was saved can be read
    if answer.status_code == 200:
        refused = answer.json()["refused"]
        assert all(one["why"] for one in refused)
        kept = [row["correction_id"] for row in found["corrections"]]
        assert bool(refused) or sent["correction_id"] in kept or sent["portrait_id"] != portrait
