"""The collapse lessons: their losses against closed forms and lightly, their switches, their runs, their verdicts."""

import copy
import json
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipelines.collapse import data, greedy, lab, losses, multicrop, numbers, packing, pretext, sweeps, verdicts
from pipelines.collapse.settings import (
    BATCHES,
    BREAKS,
    SWITCHES,
    Batches,
    Greedy,
    Lab,
    MultiCrop,
    Packing,
    Pretext,
    batch_runs,
    broken,
    expected_seconds,
    preset,
    whole,
)
from pipelines.errors import UserError
from pipelines.settings import checked, settings_of
from pipelines.small_nets import Block, initialised
from tests.small_world import small_world


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    with small_world():
        yield


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def same_frames(first, second) -> bool:
    """Whether two records hold the same numbers, arrays and all."""
    if hasattr(first, "__dataclass_fields__"):
        return all(same_frames(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(same_frames, first, second))
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    return first == second or first != first and second != second


# ------------------------------------------------------------------------------------------------------------- losses


def test_nt_xent_is_lightlys_and_ln_of_the_others_when_all_are_alike():
    from lightly.loss import NTXentLoss

    one, two = normal(16, 8), normal(16, 8, seed=1)
    for temperature in (0.1, 0.5):
        wanted = NTXentLoss(temperature)(one, two)
        assert torch.allclose(losses.nt_xent(one, two, temperature), wanted, atol=1e-12)
    alike = torch.ones(16, 8, dtype=torch.float64)
    assert float(losses.nt_xent(alike, alike, 0.2)) == pytest.approx(math.log(31), abs=1e-12)
    assert losses.nt_xent_collapsed(16) == math.log(31)


def test_negative_cosine_is_lightlys_and_byols_up_to_a_constant():
    from lightly.loss import NegativeCosineSimilarity

    guess, target = normal(16, 8), normal(16, 8, seed=1)
    ours = losses.negative_cosine(guess, target)
    assert torch.allclose(ours, NegativeCosineSimilarity()(guess, target), atol=1e-12)
    byol = (F.normalize(guess, dim=1) - F.normalize(target, dim=1)).square().sum(1).mean()
    assert torch.allclose(2 + 2 * ours, byol, atol=1e-12)


def test_distillation_is_lightlys_dino_loss():
    from lightly.loss import DINOLoss

    student, teacher = normal(2, 6, 32, dtype=torch.float32), normal(2, 6, 32, seed=1, dtype=torch.float32)
    theirs = DINOLoss(32, warmup_teacher_temp=0.04, teacher_temp=0.04, warmup_teacher_temp_epochs=1)
    wanted = theirs(list(teacher), list(student), epoch=1)  # its centre is 0 at first
    assert torch.allclose(losses.distillation(student, (teacher / 0.04).softmax(-1)), wanted, atol=1e-5)
    even = torch.full((2, 6, 32), 1 / 32)
    assert float(losses.distillation(torch.zeros(2, 6, 32), even)) == pytest.approx(math.log(32), abs=1e-6)


def test_sinkhorn_shares_the_prototypes_evenly():
    logits = normal(64, 16) * 0.1 + torch.linspace(0, 0.3, 16)  # some prototypes are everybody's favourite
    shares = losses.sinkhorn(logits, 0.04, rounds=50)
    assert torch.allclose(shares.sum(1), torch.ones(64, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(shares.sum(0), torch.full((16,), 4.0, dtype=torch.float64), atol=1e-3)
    plain = (logits / 0.04).softmax(1).sum(0)
    assert losses.sinkhorn(logits, 0.04).sum(0).std() < 0.2 * plain.std()
    assert torch.isfinite(losses.sinkhorn(100 * logits, 0.04)).all()


# ---------------------------------------------------------------------------------------------------------------- lab


@pytest.mark.parametrize("name", BREAKS)
def test_every_preset_runs_beside_the_whole_method(name):
    settings = preset(name, start="scratch", steps=2, batch=8)
    assert broken(settings) and not broken(whole(settings)) and set(broken(settings)) <= set(SWITCHES[settings.method])
    frames = [found for found in lab.run(settings) if isinstance(found, lab.Frame)]
    assert [frame.a.step for frame in frames] == [frame.b.step for frame in frames] == [0, 1, 2]
    assert frames[0].a.loss is None and all(math.isfinite(frame.b.loss) for frame in frames[1:])
    first, last = frames[0], frames[-1]
    assert np.array_equal(first.a.views, first.b.views) and first.a.views.dtype == np.uint8, "the same batches"
    assert last.a.look.points.shape == (48, 2) and last.a.look.points.dtype == np.uint8
    assert last.a.look.positives.sum() == 8 and last.a.look.negatives.sum() == 56
    assert (last.a.teacher_entropy is not None) == (last.a.look.prototypes is not None) == (settings.method == "dino")
    assert (last.a.knn_teacher is not None) == (settings.method in ("byol", "dino"))
    assert 0 < first.baselines.chance < first.baselines.pixels and 0 <= last.b.knn <= 1
    assert verdicts.of_lab(frames, "crossed").right in (True, False)


def test_pictures_are_told_of_while_they_are_drawn(monkeypatch):
    monkeypatch.setattr(data, "_DRAWN", set())
    told = list(data.preparing())
    assert told[-1].done == told[-1].of == 64 + 96 + 48 and told[0].pictures.shape[1:] == (32, 32, 3)
    assert list(data.preparing()) == []


@pytest.mark.parametrize("method", ["simclr", "dino"])
def test_same_seed_same_frames_on_one_and_on_two_threads(method):
    settings = Lab(method=method, negatives=False, sharpening=False, start="scratch", steps=2, batch=16)
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            runs.append([found for found in lab.run(settings) if isinstance(found, lab.Frame)])
    finally:
        torch.set_num_threads(before)
    assert all(map(same_frames, *runs)) and len(runs[0]) == 3
    other = [found for found in lab.run(replace(settings, seed=1)) if isinstance(found, lab.Frame)]
    assert not same_frames(other[-1], runs[0][-1])


def test_a_teacher_with_momentum_one_stays_as_it_is_and_with_zero_is_the_network():
    for momentum, stays in ((1.0, True), (0.0, False)):
        run = lab.Run(replace(whole(Lab(method="byol", start="scratch", batch=4)), momentum=momentum))
        pixels = normal(8, 3, 32, 32, dtype=torch.float32).sigmoid()
        before = copy.deepcopy(run.teacher.state_dict())
        for _ in range(2):
            run.learn(pixels)
        wanted = before if stays else run.net.state_dict()
        for name, value in run.teacher.state_dict().items():
            assert not value.is_floating_point() or torch.equal(value, wanted[name]), name
        moved = [not torch.equal(value, before[name]) for name, value in run.net.state_dict().items()]
        assert sum(moved) > 20


def test_switches_do_what_they_say():
    pixels = normal(8, 3, 32, 32, dtype=torch.float32).sigmoid()

    def run_of(**switches) -> lab.Run:
        run = lab.Run(replace(whole(Lab(start="scratch", batch=4)), **switches))
        run.loss(pixels)
        return run

    byol, simsiam = run_of(method="byol"), run_of(method="simsiam")
    assert byol.teacher is not None and simsiam.teacher is None and byol.net.predictor is not None
    assert run_of(method="byol", ema=False).teacher is None
    assert run_of(method="byol", stop_gradient=False).teacher is None, "the target is the network itself"
    assert run_of(method="simsiam", predictor=False).net.predictor is None
    assert run_of(method="dino").net.prototypes.weight.shape == (128, 64)
    z = normal(4, 64, dtype=torch.float32).requires_grad_()
    assert not simsiam.target(pixels, z)[1].requires_grad
    assert run_of(method="simsiam", stop_gradient=False).target(pixels, z)[1] is z
    logits = normal(8, 128, dtype=torch.float32) * 0.1
    sharp, flat = (run_of(method="dino", centring="none", sharpening=on).assign(logits) for on in (True, False))
    assert torch.allclose(sharp, (logits / 0.04).softmax(1)) and torch.allclose(flat, logits.softmax(1))
    centred = run_of(method="dino", centring="mean")
    before = centred.centre.clone()
    centred.assign(logits)
    assert torch.allclose(centred.centre, 0.9 * before + 0.1 * logits.mean(0), atol=1e-6)
    assert run_of(negatives=False).loss_collapsed == -1 and run_of().loss_collapsed == math.log(7)


def test_closing_a_run_ends_it_within_a_step():
    running = lab.run(Lab(start="scratch", steps=400, batch=4))
    while not isinstance(next(running), lab.Frame):
        pass
    running.close()
    with pytest.raises(StopIteration):
        next(running)


def test_a_lars_step_has_the_length_of_its_paper():
    """You et al. 2017, equation 6: η‖w‖ / (‖∇‖ + β‖w‖) for every layer, and timm's is what the lab uses."""
    settings = Lab(optimizer="lars", start="scratch", learning_rate=0.3, negatives=True, batch=4)
    run = lab.Run(settings)
    before = {name: value.detach().clone() for name, value in run.net.named_parameters()}
    run.learn(normal(8, 3, 32, 32, dtype=torch.float32).sigmoid())
    for name, value in run.net.named_parameters():
        if value.ndim > 1:
            old, slope, decay = before[name], value.grad, lab.WEIGHT_DECAY
            ratio = lab.trust_ratio(old, slope, decay)
            wanted = settings.learning_rate * ratio * (slope + decay * old)
            assert torch.allclose(old - value, wanted, rtol=1e-3, atol=1e-6), name
            assert float(wanted.norm()) <= settings.learning_rate * 0.001 * float(old.norm()) * 1.001


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 1},
        {"batch": 2.5},
        {"temperature": 0},
        {"temperature": math.nan},
        {"momentum": -0.1},
        {"momentum": 1.01},
        {"momentum": math.nan},
        {"method": "magic"},
        {"negatives": 1},
        {"steps": 10**6},
        {"learning_rate": math.inf},
        {"seed": -1},
        {"speed": 3},
    ],
)
def test_what_the_lab_cannot_do_is_told(wrong):
    with pytest.raises(UserError) as told:
        checked(Lab, wrong)
    assert "must" in str(told.value) or "is true or false" in str(told.value) or "no setting" in str(told.value)
    if "speed" not in wrong:
        with pytest.raises(UserError):
            Lab(**wrong)


def test_a_rate_that_is_too_high_is_told(monkeypatch):
    monkeypatch.setattr(lab.Run, "loss", lambda run, pixels: torch.tensor(math.nan))
    with pytest.raises(UserError, match="smaller"):
        lab.Run(Lab(start="scratch")).learn(torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize("kind", [Lab, MultiCrop, Pretext, Greedy, Packing])
def test_settings_have_labels_and_defaults_within_their_limits(kind):
    for name, known in settings_of(kind).items():
        assert known.label and known.check(known.default) == known.default, name
    assert checked(kind, {}) == kind()


# ----------------------------------------------------------------------------------------------- global and local crops


def test_an_arrow_that_is_off_has_no_gradient():
    affinity = initialised(multicrop.Affinity(64), 0)
    for settings, touched in (
        (MultiCrop(local_global=False, local_local="off"), {"global"}),
        (MultiCrop(global_global=False, local_local="off"), {"local"}),
        (MultiCrop(global_global=False, local_global=False, local_local="attract"), {"local"}),
        (MultiCrop(global_global=False, local_global=False, local_local="repel"), {"local"}),
        (MultiCrop(global_global=True, local_global=False, local_local="repel", strength=0.0), {"global"}),
    ):
        crops = {
            "global": normal(2, 4, 64, dtype=torch.float32),
            "local": normal(4, 4, 64, seed=1, dtype=torch.float32),
        }
        for each in crops.values():
            each.requires_grad_()
        found = multicrop.arrow_losses(crops["global"], crops["local"], affinity, 0.2)
        multicrop.total(found, multicrop.arrows_on(settings)).backward()
        got = {name for name, each in crops.items() if each.grad is not None and each.grad.abs().max() > 0}
        assert got == touched


def test_pulling_crops_move_together_and_pushed_ones_apart():
    affinity = initialised(multicrop.Affinity(8), 0)
    local = normal(4, 3, 8, dtype=torch.float32).requires_grad_()
    global_crops = normal(2, 3, 8, seed=1, dtype=torch.float32)
    found = multicrop.arrow_losses(global_crops, local, affinity, 0.2)
    found["attract"].backward()
    moved = multicrop.pulls(local[:, 0].detach(), local.grad[:, 0])
    assert moved[0, 1] > 0 and moved[1, 0] > 0 and moved[2, 3] > 0
    assert not moved.diagonal().any()


def test_affinity_learns_who_is_of_one_picture():
    affinity, same = initialised(multicrop.Affinity(16), 0), normal(1, 256, 16, dtype=torch.float32)
    local = same + 0.3 * normal(4, 256, 16, seed=1, dtype=torch.float32)
    optimizer = torch.optim.AdamW(affinity.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        multicrop.affinity_loss(affinity, local).backward()
        optimizer.step()
    with torch.no_grad():
        assert affinity(local[0], local[1]).mean() > affinity(local[0], local[1].roll(1, 0)).mean() + 1
        assert torch.equal(affinity(local[0], local[1]), affinity(local[1], local[0]))


def test_crops_know_what_they_hold():
    masks = torch.zeros(4, 2, 64, 64)
    masks[:, 0, :32, :32] = 1  # one object above on the left, one below on the right
    masks[:, 1, 32:, 32:] = 1
    maps = torch.tensor([[-0.5, -0.5], [0.5, 0.5], [0.0, 0.0], [0.5, -0.5]])
    maps = torch.cat([0.3 * torch.eye(2).expand(4, 2, 2), maps[..., None]], 2)
    assert multicrop.object_held(masks, maps).tolist() == [0, 1, -1, -1]
    assert np.allclose(multicrop.boxes_of(maps)[0], [6.4, 6.4, 25.6, 25.6], atol=1e-4)


def test_global_and_local_crops_run():
    frames = [f for f in multicrop.run(MultiCrop(start="scratch", steps=2, batch=4)) if isinstance(f, multicrop.Frame)]
    last = frames[-1]
    assert len(frames) == 3 and last.a.on == ("global_global", "local_global", "repel") and "attract" in last.b.on
    assert set(last.a.losses) == set(multicrop.ARROWS) and last.a.example.boxes.shape == (6, 4)
    assert -1 <= last.a.look.different.mean <= 1 and last.a.look.points.shape == (12 * 9, 2)
    assert verdicts.of_multicrop(frames, "alike").right in (True, False)
    with pytest.raises(UserError, match="arrows are off"):
        list(multicrop.run(MultiCrop(global_global=False, local_global=False, local_local="off", beside="off")))
    with pytest.raises(UserError, match="must not be larger"):
        list(multicrop.run(MultiCrop(local_least=0.3, local_most=0.1)))


# ----------------------------------------------------------------------------------------------------------- pretexts


def test_four_quarter_turns_are_none():
    pixels = normal(4, 3, 8, 8)
    again = pixels
    for _ in range(4):
        again = pretext.rotated(again, torch.ones(4))
    assert torch.equal(again, pixels) and torch.equal(pretext.rotated(pixels, torch.zeros(4)), pixels)
    assert torch.equal(pretext.rotated(pixels, torch.full((4,), 2)), pixels.flip(2, 3))


def test_an_untrained_network_guesses_angles_by_chance():
    pixels, angles = pretext.at_all_angles(data.data().queries)
    net = initialised(pretext.Network(4), 0)
    right = (data.features(net, pixels).argmax(1) == angles).double().mean()
    assert abs(right - 0.25) < 3 * math.sqrt(0.25 * 0.75 / len(angles))


def test_pretexts_run_side_by_side():
    found = pretext.run(Pretext(steps=2, batch=8))
    frames = [frame for frame in found if isinstance(frame, pretext.Frame)]
    first, last = frames[0], frames[-1]
    assert last.a.task_chance == 0.25 and last.b.task_chance == 1 / 24 and 0 <= last.a.task_accuracy <= 1
    assert [layer.name for layer in last.a.layers] == list(pretext.LAYERS) and first.a.layers is not None
    look = last.a.look
    assert look.points.shape == (48 * 4, 2) == (len(look.angles), 2) and look.accuracy_by_noun.shape == (24,)
    assert last.b.look.example is None and np.allclose(look.probabilities.sum(1), 1, atol=1e-5)
    assert verdicts.of_pretext(frames, "less").right in (True, False)
    none = [f for f in pretext.run(Pretext(task="none", beside="simclr", steps=2, batch=8)) if hasattr(f, "a")]
    assert none[-1].a.look.knn == none[0].a.look.knn and none[-1].a.loss is None and none[-1].b.loss > 0


# ----------------------------------------------------------------------------------------------------- greedy modules


def test_no_gradient_crosses_the_wall():
    net = greedy.network(0)
    pixels = normal(4, 3, 48, 48, dtype=torch.float32).sigmoid()
    rng = torch.Generator().manual_seed(0)
    others = [greedy.sample_negatives(4, ahead, rng) for ahead in greedy.AHEAD]
    for wall in (True, False):
        maps = net(greedy.patches_of(pixels), wall)
        found = [greedy.info_nce(greedy.vectors(x), m, others)[0] for x, m in zip(maps, net.stack, strict=True)]
        table = greedy.gradient_table(net, found)
        weights = [net.stack[0].convolution.weight]
        crossing = torch.autograd.grad(found[1], weights, retain_graph=True, allow_unused=True)
        assert (crossing[0] is None) == wall
        below = np.tril(np.ones((3, 3), bool), -1)
        assert np.isnan(table[below]).all() if wall else (table[below] > 0).all()
        assert (np.diag(table) > 0).all() and np.isnan(table[np.triu(np.ones((3, 3), bool), 1)]).all()


def test_without_predictions_the_loss_is_ln_65_and_the_exponential_is_taken_once():
    z, predict = normal(4, 5, 5, 8, dtype=torch.float32), torch.nn.Linear(8, 8, bias=False)
    others = greedy.sample_negatives(4, 1, torch.Generator().manual_seed(0))
    module = greedy.Module(1, 8, True)
    for each in module.predict:
        torch.nn.init.zeros_(each.weight)
    two = greedy.sample_negatives(4, 2, torch.Generator().manual_seed(1))
    assert float(greedy.info_nce(z, module, [others, two])[0].detach()) == pytest.approx(math.log(65), abs=1e-6)
    logits = greedy.scores(z, predict, 1, others)
    assert logits.shape == (4 * 4 * 5, 65)
    assert torch.isclose(logits[0, 0], z[0, 0, 0] @ predict.weight.T @ z[0, 1, 0], atol=1e-5)
    assert torch.isclose(logits[7, 3], z[0, 1, 2] @ predict.weight.T @ z.flatten(0, 2)[others[7, 2]], atol=1e-5)


def test_negatives_are_of_other_pictures():
    for ahead in greedy.AHEAD:
        others = greedy.sample_negatives(6, ahead, torch.Generator().manual_seed(0))
        own = torch.arange(6).repeat_interleave((5 - ahead) * 5)
        assert others.shape == (len(own), 64) and (others // 25 != own[:, None]).all()


def test_patches_overlap_by_half_and_are_grey():
    pixels = normal(2, 3, 48, 48, dtype=torch.float32).sigmoid()
    patches = greedy.patches_of(pixels)
    assert patches.shape == (50, 1, 16, 16)
    assert torch.equal(patches[0, 0, :, 8:], patches[1, 0, :, :8]) and torch.equal(patches[0, 0, 8:], patches[5, 0, :8])
    assert torch.allclose((patches[25, 0] + 1) / 2, greedy.greyed(pixels)[1, 0, :16, :16], atol=1e-6)


def test_greedy_modules_run_beside_end_to_end():
    frames = [f for f in greedy.run(Greedy(steps=2, batch=4)) if isinstance(f, greedy.Frame)]
    last = frames[-1]
    assert last.a.taught == (True, True, True) and last.b.taught == (False, False, True)
    assert 0 < last.a.memory < last.b.memory and last.a.patches_shown.shape == (2, 16, 16)
    assert len(last.a.nouns) == len(last.baselines.untrained) == 3 and last.baselines.loss == math.log(65)
    assert last.a.probabilities.shape == (65,) and last.a.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert verdicts.of_greedy(frames, "more").right in (True, False)


# ------------------------------------------------------------------------------------------------------- packed crops


def test_packed_is_padded_is_separate():
    layer = initialised(Block(64, 4), 1).eval().double()
    sequences = [normal(length, 64, seed=length) for length in (48, 48, 16, 7, 1)]
    mask = packing.block_mask([len(x) for x in sequences])
    assert mask.shape == (120, 120) and mask.sum() == 2 * 48**2 + 16**2 + 7**2 + 1
    with torch.no_grad():
        alone = packing.separate(layer, sequences)
        for other in (packing.packed(layer, sequences, mask), packing.padded(layer, sequences)):
            assert max(float((a - b).abs().max()) for a, b in zip(alone, other, strict=True)) < 1e-12
        leaking = packing.packed(layer, sequences, torch.ones_like(mask))
    assert float((alone[0] - leaking[0]).abs().max()) > 1e-2, "the mask is what keeps them apart"


def test_skipped_depth_is_masked_depth_and_computes_less():
    x, seen = normal(10, 4, 8), []

    def branch(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        return part.square()

    kept = torch.tensor([1, 4, 5, 9])
    skipped = packing.skipped_depth(branch, x, kept)
    assert torch.allclose(skipped, packing.masked_depth(branch, x, kept), atol=1e-12) and seen == [4, 10]
    assert torch.equal(skipped[[0, 2, 3]], x[[0, 2, 3]])
    assert torch.equal(packing.skipped_depth(branch, x, torch.tensor([], dtype=torch.long)), x)


def test_packing_tells_what_it_costs():
    frames = list(packing.run(Packing(rounds=2)))
    last = frames[-1]
    assert last.difference < 1e-5 and last.difference_padded < 1e-5 and last.mask.shape == (256, 256)
    assert last.scores == {"needed": 10240, "packed": 65536, "padded": 40960, "separate": 10240}
    assert last.tokens["packed"] == 256 and last.tokens["padded"] == 640
    assert set(last.milliseconds) == {"packed", "padded", "separate", "plain", "masked", "skipped"}
    assert verdicts.of_packing(frames, "changes").right is False
    assert list(packing.run(Packing(rounds=2, small=0, drop=1.0)))


# --------------------------------------------------------------------------------------------- recorded, and in numbers


def test_the_start_is_small_and_as_good_as_its_card_says():
    figures = json.loads((lab.WARM.parent / "quality.json").read_text(encoding="utf-8"))
    card = (lab.WARM.parent / "README.md").read_text(encoding="utf-8")
    assert lab.WARM.stat().st_size < 2_000_000 and figures["command"] in card and f"{figures['seconds']} s" in card
    for name in ("knn", "untrained", "pixels", "chance"):
        assert f"{figures[name]:.1%}".replace("%", " %") in card, name
    assert figures["knn"] > 0.8 > figures["pixels"] > figures["untrained"]
    net = lab.network(Lab(start="warm"))
    other = lab.network(Lab(start="scratch"))
    assert not torch.equal(net.encoder.stem[0].weight, other.encoder.stem[0].weight)


def test_every_point_of_the_sweeps_can_be_run():
    points = sweeps.points(3)
    assert sweeps.negatives(64) == 126 and sweeps.negatives(8192) == 16382
    assert len({json.dumps(asdict(point)) for point in points.values()}) == len(points)
    for method in sweeps.METHODS:
        for batch in sweeps.BATCHES:
            equal_pictures, equal_steps = (points[sweeps.row(method, batch, equal)] for equal in ("pictures", "steps"))
            assert equal_pictures.steps * batch == sweeps.PICTURES and equal_steps.steps == sweeps.STEPS
            assert not broken(equal_steps) and equal_steps.batch == batch and equal_steps.seed == 3
    assert sweeps.linear_rate("sgd", 512) == 2 * sweeps.linear_rate("sgd", 256)
    small = replace(points["lars, 64 pictures a step"], steps=2, batch=8)
    *_, last = (step for step in lab.alone(small) if isinstance(step, lab.Step))
    assert last.step == 2 and math.isfinite(last.loss)


def test_endpoints_get_plain_numbers():
    settings = Lab(method="dino", sharpening=False, start="scratch", steps=2, batch=4)
    *_, frame = lab.run(settings)
    told = json.loads(json.dumps(numbers.of_lab(frame, settings), allow_nan=False))
    assert {"loss", "feature_std", "effective_rank", "knn_accuracy", "chance", "teacher_entropy", "collapsed"} <= set(
        told
    )
    assert told["teacher_entropy_max"] == pytest.approx(math.log(128)) and told["lacks"] == ["sharpening"]
    assert told["seed"] == 42 and told["steps"] == 2 and set(told["baseline"]) == {"chance", "pixels", "untrained"}
    assert told["whole"]["loss_collapsed"] == told["loss_collapsed"] and "look" not in told
    settings = Greedy(steps=2, batch=4)
    *_, frame = greedy.run(settings)
    told = json.loads(json.dumps(numbers.of_pair(frame, settings), allow_nan=False))
    assert told["a"]["losses"][2] > 0 and told["b"]["taught"] == [False, False, True]
    settings = Packing(rounds=2)
    *_, timing = packing.run(settings)
    told = json.loads(json.dumps(numbers.of_packing(timing, settings), allow_nan=False))
    assert told["scores"]["needed"] == 10240 and told["baseline"]["separate"] > 0


@pytest.mark.parametrize("kind", [Lab, MultiCrop, Pretext, Greedy, Packing])
def test_a_first_run_fits_into_a_minute(kind):
    assert 1 < expected_seconds(kind()) <= (30 if kind is Lab else 60)
    assert expected_seconds(kind(**{"rounds" if kind is Packing else "steps": 2})) < expected_seconds(kind())


def test_three_batches_fit_into_half_a_minute_and_share_what_is_equal():
    assert 1 < expected_seconds(Batches()) <= 30
    for settings, steps in (
        (Batches(), {16: 160, 64: 40, 256: 10}),
        (Batches(equal="steps"), dict.fromkeys(BATCHES, 40)),
    ):
        assert {batch: run.steps for batch, run in batch_runs(settings).items()} == steps
        assert all(not broken(run) and run.start == "scratch" for run in batch_runs(settings).values())


# ------------------------------------------------------------------------------------------------------------ verdicts


def test_the_labs_verdict_is_what_the_run_says():
    step = lab.Step(
        **dict.fromkeys(("teacher_entropy", "teacher_entropy_of_mean", "prototypes_in_use"), None),
        **dict.fromkeys(("knn_teacher", "look", "views"), None),
        **dict(step=80, steps=80, loss=3.0, loss_collapsed=5.5, feature_std=0.97, effective_rank=30.0),
        **dict(cosine_positive=0.8, cosine_negative=0.0, knn=0.7),
    )
    known = data.Baselines(chance=1 / 24, pixels=0.47, untrained=0.4)

    def frame(a: lab.Step, b: lab.Step) -> lab.Frame:
        return lab.Frame(a=a, b=b, baselines=known)

    def verdict(**b: float):
        first = replace(step, step=0, loss=None)
        return verdicts.of_lab([frame(first, first), frame(step, replace(step, **b))], "crossed")

    crossed = verdict(loss=-1.0, knn=0.5, feature_std=0.02)
    assert crossed.right and "below 0.1 from step 80" in crossed.text and "70%" in crossed.text
    assert verdict(loss=4.0, knn=0.5).answer == "both_whole" and verdict(knn=0.8).answer == "broken"
    assert verdict(knn=0.71).answer == "alike", "a difference that chance makes"
    with pytest.raises(UserError):
        verdicts.of_lab([frame(step, step)], "nobody")
    assert verdicts.of_sweep({16: 0.5, 128: 0.7, 512: 0.6}, "large").answer == "middle"
    assert verdicts.of_sweep({16: 0.5, 128: 0.52, 512: 0.48}, "large").answer == "alike"
