"""What the decoder learns from the local context of a patch, before it is trained as a whole."""

import argparse

import numpy as np
import pytest
import torch

from pipelines.models.detailclip import complement, keep_highest
from pipelines.models.interpolation import harmonic_fill
from pipelines.training import detailclip, local_context
from pipelines.training.loop import load_checkpoint
from pipelines.training.pairs import to_pixels
from pipelines.world import storybook


def test_patches_that_are_cut_weigh_as_much_as_whole_pictures(monkeypatch):
    """With every patch taken, the share of the error of the fill alone is what DetailCLIP's loss says."""
    model, _ = detailclip.build("storybook", detailclip.STORYBOOK_SETTINGS)
    monkeypatch.setattr(local_context, "WORST", 124)  # all that are hidden at a half: 33 of 64 blocks stay
    monkeypatch.setattr(local_context, "OTHERS", 0)
    scenes = [storybook.scene(storybook.VALIDATION[i]).picture for i in range(4)]
    pixels = to_pixels(np.stack(scenes))
    rng = torch.Generator().manual_seed(0)
    around, known, wanted, weights = local_context.cut(model, pixels, 2, rng)
    assert around.shape == (4 * 124, 3, 24, 24) and known.shape == (4 * 124, 3, 3) and wanted.shape == (4 * 124, 192)
    shares = (wanted.float().square().mean(1) * weights).view(4, 124).sum(1)
    kept = keep_highest(torch.rand(4, 256, generator=torch.Generator().manual_seed(0)), 0.5, blocks=False)
    decoded = model.decode_without_tokens(pixels, kept)  # untrained: it adds nothing to the fill
    loss = model.reconstruction_loss(pixels, decoded, complement(kept, 256), torch.zeros(4, dtype=torch.bool))
    assert shares.mean().item() == pytest.approx(loss.item(), rel=0.01)


def test_a_changed_picture_has_the_changed_fill():
    pixels, kept = torch.randn(1, 3, 32, 32), torch.tensor([[0, 3, 6, 9, 12, 15]])
    seen = torch.zeros(1, 16).scatter(1, kept, 1.0).view(1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    fill = harmonic_fill(pixels, seen, cycles=20)
    for turn in (0, 1, 2, 4, 8, 16, 24, 32, 40, 48, 95):  # each change by itself, and many at once
        changed, hidden, filled = local_context.vary(pixels, seen, fill, turn)
        torch.testing.assert_close(harmonic_fill(changed, hidden, cycles=20), filled, atol=2e-3, rtol=0)
    assert len({local_context.vary(pixels, seen, fill, turn)[0].numpy().tobytes() for turn in range(96)}) == 96


@pytest.mark.parametrize(
    ("precision", "steps", "share"),
    [("float32", 160, 0.98), ("bfloat16", 60, 0.999)],  # slow where the processor cannot
)
def test_local_context_learn_and_resume(tmp_path, precision, steps, share):
    settings = {"data": "storybook", "start": None, "pictures": 64, "checkpoint": str(tmp_path), "batch": 256}
    settings |= {
        "lr": 5e-4,
        "warmup": 20,
        "decay": steps // 2,
        "seed": 1,
        "workers": 0,
        "save_every": 20,
        "cpu": True,
        "clip": 1.0,
        "precision": precision,
    }
    local_context.train(argparse.Namespace(**settings, steps=20))
    local_context.train(argparse.Namespace(**settings, steps=steps))
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["step"] == steps and state["model"]["decoder.local_context.to_pixels.weight"].abs().max() > 0
    assert not state["model"]["decoder.local_context.to_token.weight"].any(), "left to DetailCLIP's own training"
    patches = local_context.pool(
        detailclip.build("storybook", detailclip.STORYBOOK_SETTINGS)[0], argparse.Namespace(**settings)
    )
    model, _ = detailclip.build("storybook", detailclip.STORYBOOK_SETTINGS)
    model.load_state_dict(state["model"])
    around, known, wanted, weights = (part.float() for part in patches)
    learner = model.decoder.local_context
    missed = learner.to_pixels(learner.read(around, known)) - wanted
    assert (missed.square().mean(1) * weights).sum() < share * (wanted.square().mean(1) * weights).sum()
