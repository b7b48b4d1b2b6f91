"""What the refinement U-Net makes of the decoder's prediction."""

import argparse
import copy
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from pipelines.models import detailclip as d
from pipelines.models.decoder import patchify, unpatchify
from pipelines.models.encoders import load_detail
from pipelines.training import detailclip, loop, refinement
from pipelines.training.loop import load_checkpoint

PRECISIONS = list(loop.PRECISIONS.values())  # whatever the processor computes in by itself
PIXELS, KEPT = (
    torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(5)),
    torch.arange(0, 256, 2).repeat(2, 1),
)


@pytest.fixture(scope="module")
def fresh() -> d.DetailCLIP:
    """Nothing learnt, and nobody may change it."""
    return detailclip.build("storybook", detailclip.STORYBOOK_SETTINGS)[0].requires_grad_(False)


@pytest.fixture
def busy(fresh) -> d.DetailCLIP:
    """With weights that do something in every layer, and a decoder that adds to the fill."""
    model = copy.deepcopy(fresh)
    for module in model.decoder.refinement.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.05)
    for layer in (model.decoder.to_pixels, model.decoder.local_context.to_pixels):
        nn.init.normal_(layer.weight, std=0.05)
    return model


def test_untrained_it_changes_nothing(fresh):
    decoded = fresh.student(PIXELS, KEPT)[1]
    torch.testing.assert_close(decoded.predicted, decoded.fill)


def test_it_adds_to_the_prediction(busy):
    after = busy.student(PIXELS, KEPT)[1]
    before = busy.student(PIXELS, KEPT, refined=False)[1]
    layer = busy.decoder.refinement
    assert torch.equal(after.tokens, before.tokens) and not torch.allclose(after.predicted, before.predicted)
    canvas, seen = busy.canvas(PIXELS, KEPT)
    torch.testing.assert_close(layer(before.predicted, canvas, seen, before.tokens), after.predicted)


def test_what_is_hidden_never_reaches_it(busy):
    kept = torch.arange(128)[None]  # the upper half
    pixels = PIXELS[:1].clone()
    before = busy.student(pixels, kept)[1].predicted, busy.decode_without_tokens(pixels, kept).predicted
    pixels[:, :, 64:] = 9.0
    after = busy.student(pixels, kept)[1].predicted, busy.decode_without_tokens(pixels, kept).predicted
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_it_sees_far_beyond_the_neighbours_of_a_patch(busy):
    """A patch in the middle is predicted otherwise when a visible pixel four patches away changes."""
    pixels = PIXELS[:1].clone()
    before = unpatchify(busy.decode_without_tokens(pixels, None).predicted, 8)
    pixels[:, :, 60, 28] += 5
    after = unpatchify(busy.decode_without_tokens(pixels, None).predicted, 8)
    assert (after - before)[..., 56:64, 60:68].abs().max() > 1e-4


def test_it_uses_tokens_once_it_has_learnt_to(busy):
    patches, (canvas, seen), tokens = patchify(PIXELS, 8), busy.canvas(PIXELS, KEPT), torch.randn(2, 256, 192)
    layer = busy.decoder.refinement
    told, untold = (layer(patches, canvas, seen, given) for given in (tokens, None))
    assert not torch.allclose(told, untold)
    nn.init.zeros_(layer.from_token.weight)
    torch.testing.assert_close(layer(patches, canvas, seen, tokens), untold)


def test_it_knows_no_left_and_right(busy):
    layer, (canvas, seen), tokens = busy.decoder.refinement, busy.canvas(PIXELS, KEPT), torch.randn(2, 256, 192)

    def mirrored(patches: torch.Tensor) -> torch.Tensor:
        return patchify(unpatchify(patches, 8).flip(-1), 8)

    patches, turned = patchify(canvas, 8), tokens.unflatten(1, (16, 16)).flip(2).flatten(1, 2)
    for given, other in ((tokens, turned), (None, None)):
        after = layer(patches, canvas, seen, given)
        swapped = layer(mirrored(patches), canvas.flip(-1), seen.flip(-1), other)
        torch.testing.assert_close(mirrored(swapped), after, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(after, patches)


def test_other_patches_and_grids(fresh):
    decoder = d.PixelDecoder(64, 6, 16, 1, 4, on_fill=True, refinement=(8, 16, 24))
    pixels = torch.randn(1, 3, 96, 96)
    out = decoder.refinement(patchify(pixels, 16), pixels, torch.ones(1, 1, 96, 96), torch.randn(1, 36, 64))
    torch.testing.assert_close(out, patchify(pixels, 16))
    assert d.PixelDecoder(64, 6, 16, 1, 4, refinement=(8, 16, 24)).refinement is None, "only on a fill"


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("turn", range(20))
def test_what_is_concealed_in_turn(fresh, turn, dtype):
    given, kept = refinement.conceal(fresh, PIXELS, turn, torch.Generator().manual_seed(0), dtype)
    assert torch.equal(given, PIXELS) == (turn % 10 != 9)
    if kept is not None:
        share = {6: 0.25, 16: 0.75, 9: 0.75}.get(turn, 0.5)
        assert kept.shape == (2, d.tokens_kept(16, share)) and not torch.equal(kept[0], kept[1])


@pytest.mark.parametrize(("dtype", "near"), list(zip(PRECISIONS, (0.01, 0.1), strict=True)))
@pytest.mark.parametrize("tokens", [True, False])
def test_pictures_are_decoded_as_if_there_were_no_refinement(busy, tokens, dtype, near):
    predicted = refinement.predict(busy, PIXELS, 0, torch.Generator().manual_seed(0), tokens, dtype)
    kept = predicted.seen.nonzero()[:, 1].view(2, -1)
    layer, busy.decoder.refinement = busy.decoder.refinement, None
    decoded = busy.student(PIXELS, kept)[1] if tokens else busy.decode_without_tokens(PIXELS, kept)
    torch.testing.assert_close(predicted.predicted.float(), decoded.predicted, atol=near, rtol=near)
    torch.testing.assert_close(predicted.truth.float(), patchify(PIXELS, 8), atol=0.01, rtol=0.01)
    assert torch.equal(predicted.judged, 1 - predicted.seen)
    busy.decoder.refinement = layer
    blurred = refinement.predict(busy, PIXELS, 9, torch.Generator(), tokens, dtype)
    assert blurred.judged.all(), "of a blurred picture all"


def test_windows_lie_where_things_go_wrong():
    error = torch.zeros(3, 16, 16)
    error[0, 3, 4] = error[1, 15, 15] = error[2, 0, 9] = 1.0
    found = refinement.windows(error.flatten(1), 6, torch.Generator().manual_seed(0))
    assert found.shape == (3, 36)
    for patches, wrong in zip(found, (3 * 16 + 4, 255, 9), strict=True):
        rows, columns = patches.view(6, 6) // 16, patches.view(6, 6) % 16
        assert (rows.diff(dim=0) == 1).all() and (rows.diff(dim=1) == 0).all()
        assert (columns.diff(dim=1) == 1).all() and (columns.diff(dim=0) == 0).all()
        assert wrong in patches
    whole = refinement.windows(error.flatten(1), 16, torch.Generator())
    assert torch.equal(whole, torch.arange(256).expand(3, -1))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("side", [16, 8])
def test_loss_is_the_logarithm_of_the_error_that_is_left_in_the_picture(busy, side, dtype):
    """Outside the window it is the error of the decoder, inside of the refinement."""
    layer = busy.decoder.refinement
    pictures = refinement.predict(busy, PIXELS, 0, torch.Generator().manual_seed(0), True, dtype)
    found = refinement.losses(layer, pictures, side, True, torch.Generator().manual_seed(1))
    parts = refinement.Predictions(*(part.float() for part in pictures))
    before = (parts.predicted - parts.truth).square().mean(-1) * parts.judged
    left = before.clone()
    for i, window in enumerate(refinement.windows(before, side, torch.Generator().manual_seed(1))):
        cut = [part[i, window][None] for part in parts]
        seen = cut[4].view(1, 1, side, side).repeat_interleave(8, 2).repeat_interleave(8, 3)
        after = layer(cut[1], unpatchify(cut[2], 8), seen, cut[3])
        left[i, window] = (after[0] - cut[0][0]).square().mean(-1) * parts.judged[i, window]
    left = left.sum(1) / parts.judged.sum(1)
    torch.testing.assert_close(found["total"], (left + refinement.LEAST_ERROR).log().mean(), atol=1e-3, rtol=1e-3)
    fill = ((parts.fill - parts.truth).square().mean(-1) * parts.judged).sum(1) / parts.judged.sum(1)
    torch.testing.assert_close(found["decibels"], 10 * (fill / left).log10().mean(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("given", "told"),
    [(["--window", "7"], "even"), (["--window", "18"], "16"), (["--uses", "0"], "uses"), ([], "--start is needed")],
)
def test_bad_arguments_are_told_at_once(given, told, monkeypatch, capsys):
    start = ["--start", "assets/models/storybook-detailclip"] if given else []
    monkeypatch.setattr("sys.argv", ["refinement", "--cpu", "--steps", "0", *start, *given])
    with pytest.raises(SystemExit):
        refinement.main()
    assert told in capsys.readouterr().err


def test_error_is_of_hidden_patches_or_of_a_blurred_picture(fresh):
    predicted = patchify(PIXELS, 8)
    predicted[:, 1::2] += 2.0  # hidden
    predicted[:, 0::2] += 1.0
    lost, sharp_and_blurred = d.complement(KEPT, 256), torch.tensor([False, True])
    error = fresh.reconstruction_error(predicted, PIXELS, lost, sharp_and_blurred)
    torch.testing.assert_close(error, torch.tensor([4.0, 2.5]))
    error = fresh.reconstruction_error(predicted, PIXELS, lost[:, :0], torch.ones(2, dtype=torch.bool))
    torch.testing.assert_close(error, torch.full((2,), 2.5))


@pytest.mark.parametrize(
    ("precision", "tokens", "uses", "window", "steps", "gain"),
    [
        ("float32", False, 2, 16, 35, 0.02),
        ("float32", True, 1, 8, 10, -0.1),
        ("bfloat16", False, 2, 16, 12, -0.1),  # slow where the processor cannot
        ("bfloat16", True, 1, 8, 10, -0.1),
    ],
)
def test_it_learns_resumes_and_leaves_all_else_alone(
    tmp_path, monkeypatch, precision, tokens, uses, window, steps, gain
):
    turns, conceal = [], refinement.conceal
    monkeypatch.setattr(refinement, "conceal", lambda *given: turns.append(given[2]) or conceal(*given))
    settings = replace(detailclip.STORYBOOK_SETTINGS, refinement=(32, 48, 64))
    torch.manual_seed(3)
    model, _ = detailclip.build("storybook", settings)
    state = {"model": model.state_dict(), "step": 0, "records": [], "settings": asdict(settings)}
    detailclip.write(state, tmp_path / "start")
    arguments = {"data": "storybook", "start": tmp_path / "start", "checkpoint": str(tmp_path), "batch": 8, "seed": 1}
    arguments |= {"lr": 3e-3, "warmup": 5, "decay": 20, "workers": 0, "save_every": 5, "cpu": True, "clip": 1.0}
    arguments |= {"uses": uses, "window": window, "precision": precision}
    for until in (5, steps):
        refinement.train(argparse.Namespace(**arguments, tokens=tokens, steps=until), settings=settings)
    after = load_checkpoint(tmp_path / "last.pt")
    assert after["step"] == steps
    assert turns[-5:] == list(range(steps - 5, steps)), "every way to hide has its turn"
    assert after["records"][-1]["decibels"] > gain, "an untrained decoder returns the fill: 0 dB"
    for name, tensor in after["model"].items():
        if not name.startswith("decoder.refinement."):
            assert torch.equal(tensor, model.state_dict()[name].half().float()), name
    used = after["model"]["decoder.refinement.from_token.weight"].any()
    assert bool(used) == tokens

    detailclip.write({**state, "settings": asdict(replace(settings, refinement=None))}, tmp_path / "plain")
    before = {file.name: file.read_bytes() for file in (tmp_path / "plain").glob("*.safetensors")}
    refinement.export(after, tmp_path / "plain")  # what is added opens as it was, and nothing else has changed
    clip, _ = detailclip.storybook_clip(detailclip.STORYBOOK_MODEL)
    loaded = load_detail(tmp_path / "plain", clip).decoder.refinement
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, after["model"][f"decoder.refinement.{name}"], atol=1e-3, rtol=1e-3)
    untouched = [name for name in before if "refinement" not in name]
    assert all((tmp_path / "plain" / name).read_bytes() == before[name] for name in untouched)


def test_large_weights_are_written_in_parts_that_git_takes(tmp_path, fresh):
    state = {"model": fresh.state_dict(), "step": 0, "records": [], "settings": asdict(detailclip.STORYBOOK_SETTINGS)}
    detailclip.write(state, tmp_path)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert sum(file.name.startswith("refinement") for file in files) > 1
    assert all(file.stat().st_size <= 10e6 for file in files)
    clip, _ = detailclip.storybook_clip(detailclip.STORYBOOK_MODEL)
    loaded = load_detail(tmp_path, clip)
    for name, tensor in fresh.decoder.state_dict().items():
        torch.testing.assert_close(loaded.decoder.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
