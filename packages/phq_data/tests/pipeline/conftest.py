import pytest

from phq_data.pipeline import engine, local
from phq_data.workspace import Workspace

from .toy_stages import Toys


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(tmp_path / "ws", create=True)


@pytest.fixture
def toys(monkeypatch):
    """The engine runs two toy stages instead of the real ones."""
    toys = Toys()

    def use():
        names = tuple(stage.name for stage in toys.stages)
        monkeypatch.setattr(engine, "STAGES", toys.stages)
        for module in (engine, local):
            monkeypatch.setattr(module, "STAGE_NAMES", names)

    toys.use = use
    use()
    return toys
