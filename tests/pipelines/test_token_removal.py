"""What the tab says is what the model did."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from pipelines.models.loading import load
from pipelines.token_removal import pipeline as token_removal
from pipelines.token_removal.settings import Settings
from pipelines.world import storybook

MODEL = "storybook-detailclip"


@pytest.fixture(scope="module")
def encoded(scene_image):
    return token_removal.encode(scene_image, MODEL)


def test_attention_is_a_share_of_one(encoded):
    assert encoded.attention.shape == (6, 6, 16, 16)
    total = encoded.attention.sum((2, 3))
    assert (encoded.attention >= 0).all() and (total <= 1 + 1e-5).all() and (total > 0).all()
    assert token_removal.score(encoded).sum() == pytest.approx(1)


def test_layer_and_head_pick_one_map_and_mean_averages_all(encoded):
    one = token_removal.score(encoded, layer=2, head=3)
    np.testing.assert_allclose(one, encoded.attention[2, 3] / encoded.attention[2, 3].sum(), rtol=1e-5)
    mean = encoded.attention.mean((0, 1))
    np.testing.assert_allclose(token_removal.score(encoded), mean / mean.sum(), rtol=1e-5)


@pytest.mark.parametrize("rule", token_removal.RULES)
@pytest.mark.parametrize(("ratio", "kept"), [(0.1, 28), (0.5, 132), (0.9, 232), (1.0, 256)])
def test_every_rule_keeps_the_same_number(encoded, rule, ratio, kept):
    assert token_removal.keep(token_removal.score(encoded), ratio, rule, seed=3).sum() == kept


def test_attention_keeps_the_most_looked_at_and_inverse_the_least(encoded):
    heat = token_removal.score(encoded)
    mass = {rule: heat[token_removal.keep(heat, 0.5, rule)].sum() for rule in token_removal.RULES}
    assert mass["attention-patch"] >= mass["attention"] > 132 / 256 > mass["inverse"]


def test_random_rule_follows_its_seed(encoded):
    heat = token_removal.score(encoded)
    a, b, c = (token_removal.keep(heat, 0.5, "random", seed) for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_keeping_everything_changes_nothing(encoded):
    found = token_removal.query(encoded, Settings(prompt="a cat", keep_ratio=1.0), storybook.NOUNS)
    assert found.cosine_to_full == pytest.approx(1, abs=1e-5)
    assert found.similarity_kept == pytest.approx(found.similarity_full, abs=1e-5)
    assert found.flops_ratio == 1 and found.attention_mass_kept == pytest.approx(1)
    assert found.guesses_kept[0][0] == found.guesses_full[0][0]


def test_similarity_is_open_clips_own_cosine(encoded, scene, scene_image):
    model = load(MODEL)
    with torch.no_grad():
        image = model.module.encode_image(model.pixels(scene_image), normalize=True)
        text = model.module.encode_text(model.tokenize([scene.caption]), normalize=True)
    found = token_removal.query(encoded, Settings(prompt=scene.caption))
    assert found.similarity_full == pytest.approx((image @ text.T).item(), abs=1e-4)


def test_meaning_survives_attention_and_suffers_from_inverse():
    """Over twenty never-seen scenes, as the tab's first sentence says."""
    cosines = {"attention": [], "inverse": []}
    for seed in range(20):
        encoded = token_removal.encode(Image.fromarray(storybook.scene(storybook.TEST[seed]).picture), MODEL)
        for rule, values in cosines.items():
            values.append(token_removal.query(encoded, Settings(rule=rule)).cosine_to_full)
    assert np.mean(cosines["attention"]) > 0.95
    assert np.mean(cosines["inverse"]) < np.mean(cosines["attention"]) - 0.2


def test_flops_are_what_torch_counts(encoded):
    model = load(MODEL)
    for kept in (256, 132):
        index = torch.arange(kept)[None] if kept < 256 else None
        with FlopCounterMode(display=False) as counter:
            model.encoder.encode(encoded.pixels, index)
        assert token_removal.flops(model, kept) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_sweep_covers_all_rules_and_agrees_with_query(encoded):
    points = token_removal.sweep(encoded, 0.5, Settings(prompt="a cat"))
    assert len(points) == len(token_removal.RULES) - 1 + token_removal.RANDOM_SEEDS
    for rule, seed in (("attention", None), ("inverse", None), ("random", 43)):
        point = next(p for p in points if (p.rule, p.seed) == (rule, seed))
        found = token_removal.query(encoded, Settings(prompt="a cat", rule=rule, seed=seed or 0))
        assert point.cosine == pytest.approx(found.cosine_to_full, abs=1e-4)
        assert point.similarity == pytest.approx(found.similarity_kept, abs=1e-4)
    assert token_removal.sweep(encoded, 0.5, Settings())[0].similarity is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rule": "best"}, "must be one of 'attention'"),
        ({"keep_ratio": 1.2}, "from 0 to 1"),
        ({"prompt": "a zebra"}, "does not know 'zebra'"),
    ],
)
def test_bad_settings_say_what_is_allowed(encoded, settings, told):
    with pytest.raises(ValueError, match=told):
        token_removal.query(encoded, Settings(**settings))


def test_a_wide_photograph_is_seen_in_its_middle():
    picture = Image.new("RGB", (300, 100), "red")
    picture.paste("blue", (100, 0, 200, 100))
    seen = token_removal.encode(picture, "storybook-clip-b").picture
    assert seen[..., 2].min() > 0.95 and seen[..., 0].max() < 0.05
