"""Training runs, resumes, spreads over processes, and takes real pairs in the place of storybook."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from pipelines.training import clip as clip_training
from pipelines.training import detailclip as training
from pipelines.training import tokenizer as words
from pipelines.training.loop import (
    PRECISIONS,
    Log,
    learning_rate,
    load_checkpoint,
    mixed,
    precision,
    save_checkpoint,
    teacher_momentum,
)
from pipelines.training.pairs import LESSON, SEEDS_PER_RUN, PairFolder, Storybook, augment, pairs, to_pixels
from pipelines.world import storybook

ROOT = Path(__file__).parents[2]
SHORT = ["--cpu", "--batch", "4", "--workers", "0", "--warmup", "1", "--decay", "1", "--save-every", "1"]
SHORT += ["--precision", "float32"]  # whatever the processor computes in by itself; both where it may matter


def run(*arguments: str, launcher: tuple[str, ...] = ()) -> str:
    command = [sys.executable, "-m", *launcher, *(("-m",) if launcher else ()), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def write_pairs(folder: Path, count: int = 8) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        scene = storybook.scene(i)
        Image.fromarray(scene.picture).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(scene.caption, encoding="utf-8")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_is_the_uninterrupted_one(tmp_path, optimizer, precision, monkeypatch):
    """With a constant rate (warm-up 1, no decay before step 100), two steps and two more are four."""

    def train(steps: int, folder: str) -> None:
        constant = [*SHORT, "--save-every", "2", "--optimizer", optimizer, "--precision", precision]
        checkpoint = str(tmp_path / folder)
        monkeypatch.setattr(sys, "argv", ["clip", "--steps", str(steps), "--checkpoint", checkpoint, *constant])
        clip_training.main()

    train(4, "a")
    whole = load_checkpoint(tmp_path / "a" / "last.pt")
    train(2, "b")
    assert load_checkpoint(tmp_path / "b" / "last.pt")["step"] == 2
    train(4, "b")
    resumed = load_checkpoint(tmp_path / "b" / "last.pt")
    assert (whole["step"], resumed["step"]) == (4, 4)
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, resumed["model"][name]), name


def test_two_processes_on_a_folder_of_real_pairs(tmp_path):
    write_pairs(tmp_path / "pairs")
    run(
        "pipelines.training.detailclip",
        "--steps",
        "2",
        "--data",
        str(tmp_path / "pairs"),
        "--checkpoint",
        str(tmp_path / "c"),
        *SHORT,
        launcher=(
            "accelerate.commands.launch",
            "--cpu",
            "--num_processes",
            "2",
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
        ),
    )
    assert load_checkpoint(tmp_path / "c" / "last.pt")["step"] == 2


def test_webdataset_shards_of_real_pairs(tmp_path):
    write_pairs(tmp_path / "pairs")
    with tarfile.open(tmp_path / "0.tar", "w") as shard:
        for file in sorted((tmp_path / "pairs").iterdir()):
            shard.add(file, arcname=file.name)
    views, caption = next(iter(pairs(str(tmp_path / "0.tar"), 0, 64, 2, 0.5)))
    assert views.shape == (2, 64, 64, 3) and caption in {storybook.scene(i).caption for i in range(8)}


def test_folder_shows_every_pair_before_it_repeats(tmp_path):
    write_pairs(tmp_path, 6)
    items = iter(PairFolder(tmp_path, 0, 32, 1, 0.5))
    assert {next(items)[1] for _ in range(6)} == {storybook.scene(i).caption for i in range(6)}


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="caption of the same name"):
        pairs(str(tmp_path), 0, 32, 1, 0.5)


def test_scenes_alternate_with_lessons_in_bare_nouns():
    stream = iter(Storybook(0, 128, 0, 1.0, start=LESSON - 40))
    captions = [next(stream)[1] for _ in range(80)]
    nouns = {storybook.article(noun) for noun in storybook.NOUNS}
    assert set(captions[40:]) <= nouns and not set(captions[:40]) <= nouns


def test_processes_share_the_stream_without_overlap():
    def captions(rank: int, world: int, count: int) -> list[str]:
        items = iter(Storybook(0, 32, 1, 0.5, 0, rank, world))
        return [next(items)[1] for _ in range(count)]

    alone, first, second = captions(0, 1, 6), captions(0, 2, 3), captions(1, 2, 3)
    assert [first[0], second[0], first[1], second[1], first[2], second[2]] == alone


def test_training_never_sees_a_test_scene(monkeypatch):
    drawn, scene = [], storybook.scene
    monkeypatch.setattr(storybook, "scene", lambda seed, **settings: drawn.append(seed) or scene(seed, **settings))
    for seed in (0, 5, 9):
        stream = iter(Storybook(seed, 128, 0, 1.0, start=SEEDS_PER_RUN - 4))
        for _ in range(4):
            next(stream)
    assert len(set(drawn)) == 12 and all(s in storybook.TRAIN for s in drawn)
    assert not {*storybook.TRAIN[:1], *storybook.TRAIN[-1:]} & {*storybook.VALIDATION[:1], *storybook.TEST[:1]}
    assert storybook.TRAIN[-1] < storybook.VALIDATION[0] and storybook.VALIDATION[-1] < storybook.TEST[0]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("ablation", training.ABLATIONS)
def test_every_ablation_trains(ablation, precision, tmp_path):
    command = ["--ablate", ablation, "--steps", "1", "--checkpoint", str(tmp_path), *SHORT, "--batch", "2"]
    training.train(training.parser().parse_args([*command, "--precision", precision]))
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 1 and all(torch.isfinite(t).all() for t in state["model"].values())


def test_export_opens_with_plain_open_clip(tmp_path):
    run("pipelines.training.detailclip", "--steps", "1", "--checkpoint", str(tmp_path / "c"), *SHORT)
    run("pipelines.training.detailclip", "--checkpoint", str(tmp_path / "c"), "--export", str(tmp_path / "m"))
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'm'}")
    state = load_checkpoint(tmp_path / "c" / "last.pt")["model"]
    torch.testing.assert_close(model.visual.conv1.weight, state["clip.visual.conv1.weight"].half().float())
    pixels = preprocess(Image.fromarray(storybook.scene(0).picture))
    assert pixels.shape == (3, 128, 128) and pixels.min() >= -2.01 and pixels.max() <= 2.01
    assert json.loads((tmp_path / "m" / "training_log.json").read_text(encoding="utf-8"))["steps"] == 1


def test_run_starts_from_an_exported_model(tmp_path):
    """From a DetailCLIP folder everything comes, from a plain CLIP the student, and the teacher is its copy."""
    settings = training.STORYBOOK_SETTINGS
    torch.manual_seed(1)
    first, _ = training.build("storybook", settings)
    state = {"model": first.state_dict(), "step": 0, "records": [], "settings": vars(settings)}
    save_checkpoint(tmp_path / "last.pt", **state)
    training.export(tmp_path, tmp_path / "whole")
    training.export_openclip(first.clip.state_dict(), tmp_path / "plain", training.STORYBOOK_MODEL)

    second, _ = training.build("storybook", settings)
    training.start_from(second, tmp_path / "whole")
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, atol=1e-3, rtol=1e-3, msg=name)

    third, _ = training.build("storybook", settings)
    training.start_from(third, tmp_path / "plain")
    torch.testing.assert_close(third.clip.visual.conv1.weight, first.clip.visual.conv1.weight, atol=1e-3, rtol=1e-3)
    for slow, fast in zip(third.teacher.parameters(), third.clip.visual.parameters(), strict=True):
        assert torch.equal(slow, fast)

    fourth, _ = training.build("storybook", settings)
    training.start_from(fourth, tmp_path / "plain", rest=tmp_path / "whole")
    for slow, fast in zip(fourth.teacher.parameters(), fourth.clip.visual.parameters(), strict=True):
        assert torch.equal(slow, fast)
    for name, tensor in fourth.decoder.state_dict().items():
        torch.testing.assert_close(tensor, first.decoder.state_dict()[name], atol=1e-3, rtol=1e-3, msg=name)


def test_plain_clip_sees_a_part_and_at_the_end_all_patches(tmp_path, monkeypatch):
    seen = []

    def look(self, pixels, text, kept, dtype):
        seen.append(None if kept is None else tuple(kept.shape))
        assert kept is None or all(len(row.unique()) == len(row) and row.max() < 64 for row in kept)
        return self.clip.logit_scale.sum()

    monkeypatch.setattr(clip_training.Contrast, "forward", look)
    command = ["clip", "--steps", "3", "--all", "1", "--keep", "0.25", "--checkpoint", str(tmp_path), *SHORT]
    monkeypatch.setattr(sys, "argv", command)
    clip_training.main()
    assert seen == [(4, 16), (4, 16), None]


def test_longest_caption_fits_the_context():
    tokenizer = words.build()
    longest = max((storybook.scene(s, count=3).caption for s in range(400)), key=lambda c: len(tokenizer.encode(c).ids))
    ids = tokenizer.encode("a picture of a red suitcase, a blue backpack and a green apple in the sky").ids
    assert len(ids) <= words.CONTEXT_LENGTH and len(tokenizer.encode(longest).ids) <= words.CONTEXT_LENGTH
    unknown = words.vocabulary().index("[UNK]")
    assert all(unknown not in tokenizer.encode(storybook.scene(s).caption).ids for s in range(400))


def test_end_of_text_has_the_highest_id():
    ids = words.build().encode("a cat").ids
    assert ids[-1] == max(ids) == len(words.vocabulary()) - 1


def test_schedules():
    rates = [learning_rate(s, 100, 1.0, 10, 20) for s in (0, 9, 50, 80, 90, 99)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 1.0, 0.5, 0.05])
    assert teacher_momentum(0, 100, 0.99) == pytest.approx(0.99) and teacher_momentum(
        100, 100, 0.99, 1.0
    ) == pytest.approx(1.0)


@pytest.mark.parametrize("native", [True, False])
def test_only_where_nobody_chooses_the_processor_does(native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert precision(torch.device("cpu")) == (torch.bfloat16 if native else torch.float32)
    assert {name: precision(torch.device("cpu"), name) for name in PRECISIONS} == PRECISIONS


def test_log_averages(capsys):
    log = Log(every=2)
    log.add(1, loss=1.0)
    log.add(2, loss=3.0)
    assert log.records[0]["loss"] == 2.0 and '"step": 2' in capsys.readouterr().out


def test_views_keep_size_and_follow_the_seed(scene_image):
    a, b, c = (augment(scene_image, 128, 0.5, np.random.default_rng(s)) for s in (1, 1, 2))
    assert a.shape == (128, 128, 3) and np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.parametrize("dtype", PRECISIONS.values())
def test_plain_clip_shrinks_its_loss_on_one_batch(dtype):
    torch.manual_seed(0)
    clip, tokenize = training.storybook_clip(clip_training.MODEL)
    model = clip_training.Contrast(clip)
    scenes = [storybook.scene(s) for s in range(8)]
    pixels, text = to_pixels(np.stack([s.picture for s in scenes])), tokenize([s.caption for s in scenes])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        with mixed(torch.device("cpu"), dtype):
            loss = model(pixels, text, None, dtype)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
