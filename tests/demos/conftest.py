"""A handler is looked at step by step."""

import pytest

from demos.ui import events


@pytest.fixture(autouse=True)
def every_step(monkeypatch):
    """The page is told of steps together where they come fast; a test sees each."""
    monkeypatch.setattr(events, "OFTEN", 0)
