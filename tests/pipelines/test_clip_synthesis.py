"""Following CLIP's gradient: the parametrizations, the views, the losses against formulas, and every bad prompt."""

import math
import types

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.clip_synthesis import parametrizations as canvas
from pipelines.clip_synthesis import pipeline
from pipelines.clip_synthesis.pipeline import Critic, Term, parse
from pipelines.clip_synthesis.settings import Settings
from pipelines.clip_synthesis.steps import Step
from pipelines.models.loading import load
from pipelines.phrases import key
from pipelines.world import storybook
from tests import tiny_diffusion

FAST = ("pixels", "fourier", "pyramid")


@pytest.fixture(autouse=True)
def small_autoencoder(monkeypatch):
    """In place of the diffusion model's: random weights."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    vae = AutoencoderTiny(**tiny_diffusion.DECODER).eval().requires_grad_(False)
    monkeypatch.setattr(canvas, "load", lambda *_: types.SimpleNamespace(module=vae))


@pytest.fixture(scope="module")
def cat() -> torch.Tensor:
    return pipeline.pixels_of(Image.fromarray(storybook.compose_text("a cat").picture), 128)


def made(**settings) -> list[Step]:
    return list(
        pipeline.run(
            Settings(**{"prompt": "a cat", "parametrization": "fourier", "steps": 6, "cutouts": 2, **settings})
        )
    )


def look_at(picture: torch.Tensor, prompt: str = "a cat") -> pipeline.Look:
    critic = Critic(prompt, load("storybook-clip-b"), load("storybook-detailclip"))
    return critic.look(lambda: picture, picture)


# --------------------------------------------------------------------------------------------------- parametrizations


@pytest.mark.parametrize("name", canvas.CANVASES)
def test_every_parametrization_gives_a_picture_that_can_learn(name):
    page = canvas.CANVASES[name](64, torch.Generator().manual_seed(0))
    picture = page()
    assert picture.shape == (1, 3, 64, 64) and 0 <= picture.min().item() <= picture.max().item() <= 1
    picture.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in page.parameters())
    again = canvas.CANVASES[name](64, torch.Generator().manual_seed(0))()
    other = canvas.CANVASES[name](64, torch.Generator().manual_seed(1))()
    assert torch.equal(picture, again) and not torch.equal(picture, other)


@pytest.mark.parametrize("name", FAST)
def test_a_parametrization_can_begin_from_a_picture(name, cat):
    page = canvas.CANVASES[name](128, torch.Generator().manual_seed(0), cat)
    assert (page() - cat.clamp(canvas.EDGE, 1 - canvas.EDGE)).abs().max() < 2e-3


def test_waves_are_scaled_by_their_frequency():
    """Unit noise in the spectrum gives energy that falls with the square of the frequency."""
    page = canvas.Fourier(128, torch.Generator().manual_seed(0))
    with torch.no_grad():
        page.waves.copy_(torch.randn(page.waves.shape, generator=torch.Generator().manual_seed(1)))
    spectrum = torch.view_as_complex(page.waves.detach()) * page.scale
    power = spectrum.abs().square().mean((0, 1))
    assert float(power[4, 1:6].mean() / power[32, 1:6].mean()) == pytest.approx((32 / 5) ** 2, rel=0.6)


# -------------------------------------------------------------------------------------------------------------- views


def test_views_are_parts_of_the_picture(monkeypatch, cat):
    monkeypatch.setattr(pipeline, "corners_of", lambda count, progress, rng: torch.eye(3).expand(count, 3, 3))
    rng = torch.Generator().manual_seed(0)
    same = pipeline.views_of(cat, 2, 128, 0.0, 0.0, rng)
    ratio = (same / cat.clamp(min=1e-3))[cat.expand_as(same) > 0.3]
    assert 0.8 < float(ratio.min()) and float(ratio.max()) < 1.2, "the whole picture, a little recoloured"


def test_first_overviews_then_parts():
    def share(progress: float) -> float:
        maps = pipeline.corners_of(400, progress, torch.Generator().manual_seed(0))
        sides = maps[:, :2, :2].det().abs().sqrt()
        return float((sides > 0.7).float().mean())

    assert share(0.0) == pytest.approx(0.75, abs=0.02) and share(0.9) == pytest.approx(0.25, abs=0.02)
    mirrored = pipeline.corners_of(400, 0.0, torch.Generator().manual_seed(0))[:, :2, :2].det() < 0
    assert 0.4 < mirrored.float().mean() < 0.6


# ------------------------------------------------------------------------------------------------------------- losses


def test_spherical_distance_is_half_the_squared_angle():
    angle = torch.linspace(0.01, 3.0, 20)
    features = torch.stack([angle.cos(), angle.sin()], dim=-1)
    assert torch.allclose(pipeline.spherical(features, torch.tensor([1.0, 0.0])), angle.square() / 2, atol=1e-4)


def test_measures_of_known_pictures():
    flat = torch.full((1, 3, 64, 64), 0.5)
    assert pipeline.total_variation(flat) == 0 and pipeline.greyness(flat) == 0
    red = torch.zeros(1, 3, 64, 64)
    red[:, 0] = 1
    assert float(pipeline.greyness(red)) == pytest.approx(-4 / 9)
    rows = torch.arange(64.0)
    checks = ((rows[:, None] + rows) % 2).expand(1, 3, 64, 64)
    wave = (0.5 + 0.5 * (2 * math.pi * rows / 64).sin()).expand(1, 3, 64, 64)
    assert pipeline.high_frequency_share(checks) == pytest.approx(1) and pipeline.high_frequency_share(wave) < 1e-6
    assert torch.allclose(pipeline.blurred(flat), flat, atol=1e-6)
    assert float((pipeline.blurred(checks) - 0.5).abs().max()) < 0.01


def test_real_pictures_rank_first_and_grey_does_not(cat):
    look = look_at(cat)
    assert look.rank_held_out <= 3 and "a cat" in look.captions and look.similarity > 0.3
    assert look.gap == look.similarity - look.similarity_held_out
    assert look.after_blur > 0.9 and look_at(cat, "a dog").after_blur is None, "of nothing there is no share"
    grey = look_at(torch.full_like(cat, 0.5))
    assert grey.rank_held_out > 3 and grey.similarity < look.similarity and grey.high_frequency < 1e-6


def test_a_prompt_is_ranked_among_a_hundred_different_captions():
    first = pipeline.captions()[0]
    for prompt in ("a cat", first, first.upper(), f"  {first}".replace(" a ", "  the ")):
        texts = Critic(prompt, load("storybook-clip-b"), load("storybook-detailclip")).texts
        assert len(texts) == len(set(map(key, texts))) == 100 and texts[0] == prompt


def test_real_pictures_are_the_yardstick():
    found = pipeline.reference("a cat", "storybook-clip-b", "storybook-detailclip", count=4)
    mean, low, high = found.similarity
    assert found.count == 4 and low <= mean <= high and mean > 0.3
    assert np.array_equal(np.asarray(found.example), storybook.compose_text("a cat", seed=0).picture)
    assert pipeline.reference("a cat left", "storybook-clip-b", "storybook-detailclip", count=1) is None


# ---------------------------------------------------------------------------------------------------------------- run


@pytest.mark.parametrize("writing", canvas.CANVASES)
def test_following_the_gradient_convinces_the_model(writing):
    steps = made(parametrization=writing, steps=12, augment=False)
    assert [step.iteration for step in steps] == list(range(1, 13)), "every iteration can be the last"
    assert [step.iteration for step in steps if step.look] == [1, 5, 10, 12]
    first, last = steps[0], steps[-1]
    assert last.loss < first.loss and last.look.similarity > first.look.similarity
    assert last.look.picture.size == (128, 128) and 1 <= last.look.rank_held_out <= 100


def test_same_seed_same_picture():
    first, again, other = (made(seed=seed)[-1].look.picture.tobytes() for seed in (1, 1, 2))
    assert first == again != other


def test_models_learn_nothing_and_keep_no_gradient():
    model = load("storybook-clip-b").module
    before = [p.clone() for p in model.parameters()]
    made()
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.parameters(), strict=True))


def test_views_are_what_the_model_was_shown():
    assert made(cutouts=3)[-1].look.views.shape == (3, 128, 128, 3)
    assert made(augment=False)[-1].look.views.shape == (1, 128, 128, 3), "no views: the picture itself"


def test_a_negative_prompt_is_moved_away_from():
    def similarity(prompt: str) -> float:
        last = made(prompt=prompt, steps=20, augment=False, parametrization="pixels")[-1]
        assert last.look is not None
        return look_at(pipeline.pixels_of(last.look.picture, 128), "a dog").similarity

    assert similarity("a cat:1 | a dog:-1") < similarity("a cat") - 0.02


def test_an_example_pulls_towards_it(cat):
    example = Image.fromarray((cat[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    assert set(made(prompt="a car", wanted=example)[-1].parts) == {"a car", "the example"}

    def likeness(weight: float) -> float:
        last = made(prompt="a car", wanted=example, wanted_weight=weight, augment=False, steps=20)[-1]
        assert last.look is not None
        model = load("storybook-clip-b")
        pictures = torch.cat([pipeline.pixels_of(last.look.picture, 128), cat])
        with torch.no_grad():
            drawn, wanted = pipeline.features_of(model, pictures)
        return float(drawn @ wanted)

    assert likeness(2.0) > likeness(0.0) + 0.1


def test_other_losses_are_told():
    last = made(variation=1.0, saturation=0.5)[-1]
    assert set(last.parts) == {"a cat", "total variation", "saturation"} and last.parts["saturation"] < 0
    assert last.loss == pytest.approx(sum(last.parts.values()), rel=1e-4)


@pytest.mark.parametrize("prompt", ["a cat | a cat:-0.5", "a cat:2 | a cat | a cat", "a cat:1 | a cat:1"])
def test_prompts_that_are_alike_are_all_followed(prompt):
    """No part of the loss takes the place of another of the same name."""
    (term, *others), last = parse(prompt), made(prompt=prompt)[-1]
    assert list(last.parts) == ["a cat", *(f"a cat ({n})" for n in range(2, len(others) + 2))]
    assert last.loss == pytest.approx(sum(last.parts.values()), rel=1e-4)
    for (_, part), other in zip(list(last.parts.items())[1:], others, strict=True):
        assert part / other.weight == pytest.approx(last.parts["a cat"] / term.weight, rel=1e-4)


# ---------------------------------------------------------------------------------------------------------- bad input


def test_prompts_with_weights():
    assert parse("a cat") == [Term(weight=1.0, text="a cat")]
    assert parse("a cat:2 | blurry : -0.3 |") == [Term(weight=2.0, text="a cat"), Term(weight=-0.3, text="blurry")]
    assert pipeline.main_prompt(parse("a cat:0.5 | a dog:1.5")) == "a dog"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "no prompt yet"),
        (" | ", "no prompt yet"),
        (None, "no prompt yet"),
        ("a cat:nan", "'nan' is no weight"),
        ("a cat:inf", "'inf' is no weight"),
        ("a cat:1e38", "Weights are from"),
        ("a cat:1e999", "Weights are from"),
        ("a cat:0", "not 0"),
        ("a cat:", "'' is no weight"),
        (":2", "weight without a prompt"),
        ("a cat:-1", "All prompts are negative"),
        ("a cat:-1 | a dog:-2", "All prompts are negative"),
        ("a|" * 20, "At most 8"),
        ("cat " * 1000, "3999 characters"),
        ("a zebra", "does not know 'zebra'"),
    ],
)
def test_bad_prompts_say_what_is_wrong(prompt, message):
    with pytest.raises(ValueError, match=message):
        list(pipeline.run(Settings(prompt=prompt)))


@pytest.mark.parametrize("settings", [{"steps": 0}, {"cutouts": 0}, {"parametrization": "oil"}, {"model": "gpt"}])
def test_bad_settings_say_what_is_wrong(settings):
    with pytest.raises(ValueError):
        list(pipeline.run(Settings(prompt="a cat", **settings)))
