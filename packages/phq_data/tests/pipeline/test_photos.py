"""Bytes of photos: where they lie, and fetched again where a copy is lost."""

import hashlib

import pytest

from phq_data.pipeline.photos import read_photo, sound_photo
from phq_data.sources.plan import photo_key
from phq_data.workspace import WorkspaceError


def test_photos_are_read_from_the_workspace_or_from_where_they_lie(workspace, tmp_path):
    workspace.write_bytes("photos/a", b"copied")
    (tmp_path / "b.jpg").write_bytes(b"referenced")
    assert read_photo(workspace, "photos/a") == b"copied"
    assert read_photo(workspace, (tmp_path / "b.jpg").as_uri()) == b"referenced"
    with pytest.raises(OSError):
        read_photo(workspace, (tmp_path / "c.jpg").as_uri())


@pytest.mark.parametrize("found", [b"bad", None])
def test_a_copy_that_is_damaged_or_missing_comes_back_from_its_source(workspace, tmp_path, found):
    source, data = tmp_path / "a.jpg", b"a photo"
    key = photo_key(hashlib.sha256(data).hexdigest(), "JPEG")
    source.write_bytes(data)
    if found is not None:
        workspace.write_bytes(key, found)
    with pytest.raises(WorkspaceError, match=r"is (damaged|missing).*phq workspace remove"):
        sound_photo(workspace, key, ["https://example.org/a.jpg", (tmp_path / "none.jpg").as_uri()])
    assert sound_photo(workspace, key, [(tmp_path / "none.jpg").as_uri(), source.as_uri()]) == data
    assert workspace.read_bytes(key) == data
    source.write_bytes(b"another")
    workspace.write_bytes(key, b"bad")
    with pytest.raises(WorkspaceError, match="no longer has its bytes"):
        sound_photo(workspace, key, [source.as_uri()])
