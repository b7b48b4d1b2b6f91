"""Recorded studies: what the command writes, and how it goes on."""

import json

import pytest

from pipelines.training import studies


@pytest.fixture
def counted(monkeypatch):
    asked = []

    def double(seed: int) -> dict:
        asked.append(seed)
        return {"a row": {"twice": 2.0 * seed, "never": None}}

    monkeypatch.setitem(studies.STUDIES, "double", double)
    return asked


def test_a_study_says_its_seeds_command_and_spread(tmp_path, counted):
    found = studies.study("double", 3, tmp_path)
    assert found == json.loads((tmp_path / "double.json").read_bytes())
    assert found["seeds"] == [0, 1, 2] and found["command"].endswith("studies double --seeds 3")
    assert found["summary"] == {"a row": {"twice": {"mean": 2, "sd": 2, "least": 0, "most": 4, "seeds": 3}}}
    assert "| a row | 2 ± 2 |" in studies.table(found)


def test_a_study_resumes_where_it_stopped(tmp_path, counted):
    studies.study("double", 2, tmp_path)
    found = studies.study("double", 4, tmp_path, resume=True)
    assert counted == [0, 1, 2, 3] and found["seeds"] == [0, 1, 2, 3]
