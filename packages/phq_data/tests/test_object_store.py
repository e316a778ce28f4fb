"""Workspaces at an object store: an S3 service on loopback, with faults."""

from s3_server import Fault

from phq_data.workspace import Workspace


def test_a_workspace_lives_in_an_s3_bucket(s3):
    workspace = Workspace.open(f"{s3.url}/some/place", create=True)
    workspace.write_bytes("photos/one", b"data")
    assert Workspace.open(f"{s3.url}/some/place").read_bytes("photos/one") == b"data"
    assert s3.keys() == ["some/place/photos/one", "some/place/workspace.json"]


def test_a_request_that_fails_now_and_then_is_sent_again(s3):
    workspace = Workspace.open(f"{s3.url}/place", create=True)
    for fault in (
        Fault(status=500),
        Fault(status=503),
        Fault(reset=True),
        Fault(lost=True),
        Fault(pause=0.2),
    ):
        left = [fault]
        s3.service.fault = lambda request, left=left: left.pop() if left else None
        workspace.write_bytes("one", str(fault).encode())
        assert not left and workspace.read_bytes("one") == str(fault).encode()
