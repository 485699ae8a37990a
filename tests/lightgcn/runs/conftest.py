import pytest

from lightgcn_jax.runs import trainer


@pytest.fixture
def curves():
    """Asked for by tests that look at a run's curves."""


@pytest.fixture(autouse=True)
def no_curves(request, monkeypatch):
    """Drawing takes longer than training a small run; fixtures of a module draw all the same."""
    if "curves" not in request.fixturenames:
        monkeypatch.setattr(trainer, "plot_curves", lambda *_: [])
