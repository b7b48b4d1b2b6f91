"""What tabs show before anyone has pressed anything: recorded runs of the settings that the page shows beside them."""

from dataclasses import asdict, replace

import pytest

from demos import clip_synthesis, diffusion, token_removal
from demos.ui.models import quality_of
from pipelines.clip_synthesis.settings import Settings as Synthesis
from pipelines.clip_synthesis.steps import Comparison
from pipelines.diffusion import recording
from pipelines.diffusion.settings import Settings as Diffusion
from pipelines.models import loading
from pipelines.models.registry import MODELS
from pipelines.token_removal.settings import Settings as Removal

AGAIN = "run python -m pipelines.evaluation.openings"


@pytest.fixture
def no_model(monkeypatch):
    def load(*_, **__):
        raise AssertionError("a tab that is opened loads no model")

    monkeypatch.setattr(loading, "open_model", load)
    monkeypatch.setattr(loading, "load", load)


def test_diffusion_opens_on_a_missing_object(no_model):
    shown = diffusion.first_picture(None)
    assert shown["status"].startswith("Recorded")
    asked = {name: value for name, value in asdict(Diffusion()).items() if value is not None}
    assert recording.load(diffusion.OPENING).settings == asked, AGAIN
    assert shown["numbers"]["presence_all"] is False  # which is what the lesson is about
    assert "missing" in shown["verdict"]
    assert diffusion.first_picture(shown["kept"]) is None  # what is on show stays


def test_clip_synthesis_opens_with_and_without_views(no_model):
    shown = clip_synthesis.first_picture(None)
    assert shown["status"].startswith("Recorded")
    asked = replace(Synthesis(), judge=MODELS[Synthesis().model].scorer)
    assert Comparison.load(clip_synthesis.OPENING).settings == asked, AGAIN
    gaps = {name: told["gap"] for name, told in shown["numbers"].items()}
    assert gaps["without"] > gaps["with views"] + 0.2  # which is what the lesson is about
    assert clip_synthesis.first_picture(False) is None


def test_a_comparison_is_read_as_it_was_written(tmp_path):
    kept = Comparison.load(clip_synthesis.OPENING)
    (tmp_path / "again.json").write_text(kept.dump(), encoding="utf-8")
    again = Comparison.load(tmp_path / "again.json")
    assert again.settings == kept.settings and again.real.similarity == kept.real.similarity
    for (name, step), (same_name, same) in zip(kept.ways, again.ways, strict=True):
        assert name == same_name and replace(step, look=None) == replace(same, look=None)
        assert step.look.picture.tobytes() == same.look.picture.tobytes()
        assert step.look.captions == same.look.captions and step.look.gap == same.look.gap


def test_the_claim_of_token_removal_is_counted(scene_file):
    """One scene proves nothing: beside it stands how often the name survives, by the card's figures."""
    figures = quality_of("storybook-detailclip")
    assert figures["naming_kept_half"] > figures["naming"] - 0.02  # the best half: the meaning stays
    assert figures["naming_lowest_half"] < 0.5  # without it: it goes
    shown = token_removal.token_removal(scene_file, Removal())
    assert "Right name, over 1,000 scenes" in shown["facts"]
    assert f"{figures['naming_lowest_half']:.0%}" in shown["facts"]
