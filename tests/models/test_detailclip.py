"""DetailCLIP against its formulas, written out slowly, and against its invariants."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from pipelines.models import detailclip as d
from pipelines.models.decoder import lower_resolution, patchify, pixel_target, unpatchify
from pipelines.models.interpolation import harmonic_fill
from pipelines.models.vision import openclip_tokens

# ---- removal


@pytest.mark.parametrize(("ratio", "count"), [(0.10, 20), (0.25, 52), (0.50, 100), (0.75, 148), (0.90, 180)])
def test_kept_counts_of_the_published_code(ratio, count):
    assert d.tokens_kept(14, ratio) == count
    assert d.keep_highest(torch.rand(2, 196), ratio).shape == (2, count)


@pytest.mark.parametrize("grid", [2, 4, 6, 12, 16])
def test_any_even_grid(grid):
    kept = d.keep_highest(torch.rand(1, grid * grid), 0.5)
    assert kept.shape[1] == 4 * ((grid // 2) ** 2 // 2 + 1) or grid == 2


def test_odd_grid_and_bad_ratios_are_refused():
    with pytest.raises(ValueError, match="even number"):
        d.tokens_kept(7, 0.5)
    for ratio in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            d.tokens_kept(14, ratio)


def test_blocks_stay_whole_and_are_the_best():
    score = torch.rand(3, 64, generator=torch.Generator().manual_seed(0))
    kept = torch.zeros(3, 64, dtype=torch.bool).scatter(1, d.keep_highest(score, 0.4), True).view(3, 4, 2, 4, 2)
    blocks = kept.permute(0, 1, 3, 2, 4).flatten(3)  # (3, 4, 4, 4): four patches of each block
    assert ((blocks.sum(-1) == 0) | (blocks.sum(-1) == 4)).all()
    means = score.view(3, 4, 2, 4, 2).mean((2, 4))
    for image in range(3):
        assert means[image][blocks[image].any(-1)].min() >= means[image][~blocks[image].any(-1)].max()


def test_complement_is_what_is_not_kept():
    kept = d.keep_highest(torch.rand(2, 64), 0.3)
    lost = d.complement(kept, 64)
    assert sorted(kept[0].tolist() + lost[0].tolist()) == list(range(64))


def test_patchify_is_undone_by_unpatchify_and_reads_rows():
    pixels = torch.randn(2, 3, 32, 32)
    patches = patchify(pixels, 8)
    assert torch.equal(unpatchify(patches, 8), pixels)
    assert torch.equal(patches[0, 1].view(8, 8, 3), pixels[0, :, :8, 8:16].permute(1, 2, 0))


def test_keep_ratio_one_is_the_unpruned_model(tiny, batch):
    pixels = batch[0][0]
    everything = torch.arange(16).expand(3, -1)
    plain = tiny.clip.encode_image(pixels)
    for kept in (None, everything, d.keep_highest(torch.rand(3, 16), 1.0)):
        tokens = openclip_tokens(tiny.clip.visual, pixels, kept)
        torch.testing.assert_close(tokens.cls @ tiny.clip.visual.proj, plain, atol=1e-5, rtol=1e-5)


def test_removed_patches_are_really_gone(tiny, batch):
    pixels, kept = batch[0][0].clone(), torch.arange(8).expand(3, -1)  # the two upper rows of patches
    before = openclip_tokens(tiny.clip.visual, pixels, kept).cls
    pixels[:, :, 16:] = 99.0
    assert torch.equal(openclip_tokens(tiny.clip.visual, pixels, kept).cls, before)


# ---- losses, transcribed


def transcribed(model: d.DetailCLIP, views, text, kept):
    """The four losses by loops over pictures, views and patches, from the formulas alone."""
    s, u_v = model.settings, [0, 1]
    batch = views.shape[1]
    log_softmax = torch.nn.functional.log_softmax
    image, target_cls, guess_cls, patch_terms, pixel_terms = {}, {}, {}, [], []
    words = model.clip.encode_text(text)
    words = words / words.norm(dim=1, keepdim=True)
    for x in u_v:
        for b in range(batch):
            picture, stay = views[x, b : b + 1], kept[x * batch + b : x * batch + b + 1]
            teacher = openclip_tokens(model.teacher, picture)
            student = openclip_tokens(model.clip.visual, picture, stay)
            decoded = model.decoder(student, stay).tokens[0]
            vector = student.cls[0] @ model.clip.visual.proj
            image[x, b] = vector / vector.norm()
            z = model.teacher_head(teacher.cls[0])
            target_cls[x, b] = torch.exp(log_softmax((z - model.center_cls) / s.teacher_temperature_cls, dim=0))
            guess_cls[x, b] = log_softmax(model.head(student.cls[0]) / s.student_temperature, dim=0)
            removed = [i for i in range(16) if i not in stay[0].tolist()]
            for i in removed:
                p = torch.exp(
                    log_softmax(
                        (model.teacher_head(teacher.patches[0, i]) - model.center_patch) / s.teacher_temperature_patch,
                        0,
                    )
                )
                patch_terms.append(-(p * log_softmax(model.head(decoded[i]) / s.student_temperature, 0)).sum())
                row, column = divmod(i, 4)
                true = picture[0, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].permute(1, 2, 0).flatten()
                pixel_terms.append(((model.decoder.to_pixels(decoded[i]) - true) ** 2).mean())
    clip = 0
    for x in u_v:
        for b in range(batch):
            logits = model.clip.logit_scale.exp() * torch.stack([image[x, b] @ words[j] for j in range(batch)])
            back = model.clip.logit_scale.exp() * torch.stack([image[x, j] @ words[b] for j in range(batch)])
            clip -= (log_softmax(logits, 0)[b] + log_softmax(back, 0)[b]) / (4 * batch)
    cls = -sum((target_cls[x, b] * guess_cls[1 - x, b]).sum() for x in u_v for b in range(batch)) / (2 * batch)
    return clip, cls, sum(patch_terms) / len(patch_terms), sum(pixel_terms) / len(pixel_terms)


def test_each_loss_is_its_formula(tiny, batch):
    tiny.eval()
    tiny.center_cls.normal_(0, 0.1)
    tiny.center_patch.normal_(0, 0.1)
    losses = tiny(*batch, keep_ratio=0.5)
    with torch.no_grad():
        attention = d.mean_attention(openclip_tokens(tiny.teacher, batch[0].flatten(0, 1)))
        kept = d.keep_highest(attention, 0.5)
        for name, slow in zip(("clip", "cls", "patch", "rec"), transcribed(tiny, *batch, kept), strict=True):
            torch.testing.assert_close(getattr(losses, name).detach(), slow, atol=2e-4, rtol=2e-4, msg=name)
    s = tiny.settings
    torch.testing.assert_close(
        losses.total,
        losses.clip + s.weight_cls * losses.cls + s.weight_patch * losses.patch + s.weight_rec * losses.rec,
    )


@pytest.fixture
def on_fill(tiny) -> d.DetailCLIP:
    """A model whose decoder adds to the fill, trained to do so by chance."""
    model = d.DetailCLIP(tiny.clip, replace(tiny.settings, decode_on_fill=True))
    local_context = model.decoder.local_context
    assert local_context is not None
    for layer in (local_context.to_token, local_context.to_pixels, model.decoder.to_pixels):
        torch.nn.init.normal_(layer.weight)
    return model.requires_grad_(False)


def test_decoder_adds_what_the_fill_lacks(tiny, on_fill):
    pixels, kept = torch.randn(2, 3, 32, 32), torch.tensor([[0, 1, 4, 5], [2, 6, 10, 14]])
    seen = torch.zeros(2, 16).scatter(1, kept, 1.0).view(2, 1, 4, 4)
    filled = harmonic_fill(pixels, seen.repeat_interleave(8, 2).repeat_interleave(8, 3))
    decoder, decoded = on_fill.decoder, on_fill.student(pixels, kept)[1]
    torch.testing.assert_close(decoded.fill, patchify(filled, 8))
    torch.testing.assert_close(on_fill.student(pixels, None)[1].fill, patchify(pixels, 8))
    lacking = decoder.to_pixels(decoded.tokens)
    assert not torch.allclose(decoded.predicted, decoded.fill + lacking)
    torch.nn.init.zeros_(decoder.local_context.to_pixels.weight)
    torch.testing.assert_close(on_fill.student(pixels, kept)[1].predicted, decoded.fill + lacking)
    blank = tiny.student(pixels, kept)[1]  # without the setting, from nothing
    torch.testing.assert_close(blank.predicted, tiny.decoder.to_pixels(blank.tokens))


def test_what_is_hidden_never_reaches_the_decoder(on_fill):
    pixels, kept = torch.randn(1, 3, 32, 32), torch.arange(8)[None]  # the two upper rows of patches
    before = on_fill.student(pixels, kept)[1]
    pixels[:, :, 16:] = 9.0
    after = on_fill.student(pixels, kept)[1]
    assert torch.equal(before.predicted, after.predicted) and torch.equal(before.tokens, after.tokens)


def test_decoding_without_tokens_is_decoding_where_tokens_say_nothing(on_fill):
    pixels, kept = torch.randn(2, 3, 32, 32), torch.tensor([[0, 1, 4, 5], [2, 6, 10, 14]])
    blind, whole = on_fill.decode_without_tokens(pixels, kept), on_fill.student(pixels, kept)[1]
    assert not torch.allclose(blind.predicted, whole.predicted)
    torch.nn.init.zeros_(on_fill.decoder.to_pixels.weight)
    torch.testing.assert_close(on_fill.student(pixels, kept)[1].predicted, blind.predicted)


def test_local_context_are_the_patch_and_its_neighbours(on_fill):
    """A pixel changes what is known of the nine patches around it, and a change of light changes nothing."""
    look, fill, seen = on_fill.decoder.local_context, torch.randn(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    before = look(fill, seen)
    fill[:, :, 20, 44] += 1  # in row 2, column 5
    changed = (look(fill, seen) - before).abs().amax(-1).view(8, 8) > 1e-6
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[1:4, 4:7] = True
    assert torch.equal(changed, expected)
    torch.testing.assert_close(look(fill + 0.7, seen), look(fill, seen), atol=1e-4, rtol=1e-4)


def test_local_context_of_chosen_patches_are_those_of_all(on_fill):
    look, fill, seen = on_fill.decoder.local_context, torch.randn(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    seen[:, :, 8:16, 24:32] = 0
    chosen = torch.tensor([[0, 11, 63], [2, 20, 7]])
    for part, whole in zip(look.around(fill, seen, chosen), look.around(fill, seen), strict=True):
        torch.testing.assert_close(part, whole[torch.arange(2)[:, None], chosen])
    assert look.around(fill, seen)[1][0, 2].flatten().tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 0]


def test_adding_nothing_costs_one_and_half_the_error_costs_a_quarter(on_fill):
    """With `decode_on_fill` L_Rec is the share of the fill's error that is left, in every picture alike."""
    pixels, kept = torch.randn(2, 3, 32, 32) * torch.tensor([1.0, 4.0]).view(2, 1, 1, 1), torch.arange(8).repeat(2, 1)
    lost, blurred = d.complement(kept, 16), torch.zeros(2, dtype=torch.bool)
    decoded = on_fill.student(pixels, kept)[1]
    for share, left in ((0.0, 1.0), (0.5, 0.25), (1.0, 0.0)):
        predicted = decoded.fill + share * (patchify(pixels, 8) - decoded.fill)
        loss = on_fill.reconstruction_loss(pixels, replace(decoded, predicted=predicted), lost, blurred)
        assert loss.item() == pytest.approx(left, abs=0.05)


def test_normalised_pixel_target_is_each_patch_by_itself():
    target = pixel_target(torch.rand(2, 3, 32, 32) * 5, 8, normalise=True)
    torch.testing.assert_close(target.mean(-1), torch.zeros(2, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(target.var(-1), torch.ones(2, 16), atol=1e-3, rtol=0)


def test_spread_is_zero_when_all_prototypes_are_used_alike_and_ln_k_when_one_is():
    assert d.spread(torch.eye(12) * 100).item() == pytest.approx(0, abs=1e-4)
    assert d.spread(torch.eye(12)[:1].expand(12, -1) * 100).item() == pytest.approx(math.log(12), abs=1e-4)


# ---- teacher


def test_teacher_follows_in_closed_form(tiny):
    start = copy.deepcopy(tiny.teacher.conv1.weight)
    with torch.no_grad():
        tiny.clip.visual.conv1.weight.add_(1.0)
    for _ in range(5):
        tiny.update_teacher(0.9)
    torch.testing.assert_close(tiny.teacher.conv1.weight, start + (1 - 0.9**5))


def test_teacher_gets_no_gradient_and_student_does(tiny, batch):
    tiny.train()(*batch, random_share=0.5, blur_share=0.5, generator=torch.Generator().manual_seed(0)).total.backward()
    for name, parameter in tiny.named_parameters():
        if name.startswith("teacher"):
            assert parameter.grad is None and not parameter.requires_grad, name
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_centers_move_towards_the_batch_mean(tiny, batch):
    tiny.train()
    with torch.no_grad():
        seen = openclip_tokens(tiny.teacher, batch[0].flatten(0, 1))
        mean = tiny.teacher_head(seen.patches).mean((0, 1))
    tiny(*batch)
    torch.testing.assert_close(tiny.center_patch, 0.1 * mean)
    tiny.eval()(*batch)
    torch.testing.assert_close(tiny.center_patch, 0.1 * mean)


def test_collapse_detectors_fire(tiny, batch):
    """Uniform collapse reads ln K everywhere; collapse to one prototype reads 0 with one prototype used."""
    limit = math.log(12)
    with torch.no_grad():
        for head in (tiny.head, tiny.teacher_head):
            head.prototypes.copy_(torch.ones(12, 8))  # all directions equal: every logit the same
    losses = tiny.eval()(*batch)
    for value in (losses.cls, losses.patch, losses.entropy_cls, losses.entropy_patch, losses.entropy_mean_patch):
        assert value.item() == pytest.approx(limit, abs=1e-4)
    tiny.center_cls[0] = tiny.center_patch[0] = -100.0  # the teacher always says prototype 0
    losses = tiny(*batch)
    assert losses.entropy_mean_patch.item() == pytest.approx(0, abs=1e-4)
    assert losses.entropy_mean_cls.item() == pytest.approx(0, abs=1e-4)
    assert losses.prototypes_used.item() == 1


def test_same_seed_same_loss_other_seed_other_loss(tiny, batch):
    tiny.eval()

    def total(seed: int) -> float:
        return tiny(*batch, random_share=1.0, generator=torch.Generator().manual_seed(seed)).total.item()

    assert total(1) == total(1) != total(2)


def test_nothing_removed_is_learnt_from_everywhere(tiny, batch):
    losses = tiny.eval()(*batch, keep_ratio=1.0)
    assert torch.isfinite(losses.total) and losses.patch > 0 and losses.rec > 0


def test_lower_resolution_keeps_the_mean_and_loses_detail():
    pixels = torch.randn(1, 3, 32, 32)
    blurred = lower_resolution(pixels, 4)
    assert blurred.shape == pixels.shape and blurred.std() < 0.5 * pixels.std()
    assert blurred.mean().item() == pytest.approx(pixels.mean().item(), abs=0.02)
