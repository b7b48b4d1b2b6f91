"""How storybook-grounding-dino is made: what it never sees, its batches, its losses, resuming, what is exported."""

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.detection.pipeline import iou, parse, read
from pipelines.models.registry import MODELS
from pipelines.training import detection as training
from pipelines.training import tokenizer as words
from pipelines.training.loop import load_checkpoint, trained
from pipelines.world import storybook
from tests.tiny_detector import SMALL, stirred


def test_held_out_pairs_are_in_no_scene_and_in_no_prompt():
    assert len(storybook.HELD_OUT) == 22
    assert {colour for colour, _ in storybook.HELD_OUT} == set(storybook.COLOURS)
    vocabulary = {i: word for word, i in words.phrase_vocabulary().items()}
    forbidden = {f"{colour} {noun}" for colour, noun in storybook.HELD_OUT}
    told = set()
    for index in range(1, 24, 2):
        batch = training.Scenes(0, 8).make(index)
        text = " ".join(vocabulary[i] for i in batch.ids.tolist()[1:-1])
        told |= set(parse(text))
    assert len(told) > 60 and not told & forbidden


@pytest.mark.parametrize("index", [0, 1, 6, 7])
def test_batches_tell_the_truth(index):
    """Nouns on even batches, colours on odd ones, two scenes in one picture on every eighth."""
    batch = training.Scenes(3, 4).make(index)
    vocabulary = {i: word for word, i in words.phrase_vocabulary().items()}
    phrases = [" ".join(vocabulary[i] for i in batch.ids[row].tolist()) for row in batch.spelled]
    first = 3 * training.SEEDS_PER_RUN + 4 * index
    scenes = [storybook.scene(storybook.TRAIN[first + i], held_out=storybook.HELD_OUT) for i in range(4)]
    assert len(batch.pixels) == (2 if index == 7 else 4)
    if index == 7:
        assert sorted(batch.pixels.shape[2:]) == [128, 256]
        assert (batch.phrase >= 0).sum() == sum(len(s.objects) for s in scenes)
        return
    for row, scene in enumerate(scenes):
        for column, o in enumerate(scene.objects):
            name = o.phrase if index % 2 else o.noun
            which = batch.phrase[row, column]
            assert (phrases[which] == name) if which >= 0 else (name not in phrases)
            np.testing.assert_allclose(training.corners(batch.boxes[row, column]) * 128, o.box, atol=1e-3)


def test_softened_pictures_show_the_same_things():
    plain, soft = training.Scenes(3, 8).make(0), training.Scenes(3, 8, soft=1.0).make(0)
    for name in ("ids", "spelled", "phrase", "boxes"):
        assert torch.equal(getattr(plain, name), getattr(soft, name)), name
    apart = (plain.pixels - soft.pixels).abs().mean((1, 2, 3))
    assert (apart > 0.02).all() and (apart < 0.6).all()
    half = training.Scenes(3, 8, soft=0.5).make(0)
    same = (plain.pixels == half.pixels).all((1, 2, 3))
    assert 0 < same.sum() < 8


def test_training_spells_as_the_tokenizer_does(detector):
    phrases = ["red car", "cat", "red", "gray bench"]
    ids, spelled = training.spell(phrases)
    prompt = read(phrases, detector)
    assert ids.tolist() == prompt.ids[0].tolist()
    assert [row.nonzero().flatten().tolist() for row in spelled] == [
        [prompt.tokens[i] for i in range(*span)] for span in prompt.spans
    ]


def test_overlaps_agree_with_the_numpy_ones_and_with_torchvision():
    from torchvision.ops import generalized_box_iou

    boxes = torch.rand(7, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.1
    plain, generalised = training.overlaps(boxes[:, None], boxes[None])
    np.testing.assert_allclose(plain, iou(training.corners(boxes).numpy(), training.corners(boxes).numpy()), atol=1e-5)
    torch.testing.assert_close(generalised, generalized_box_iou(*[training.corners(boxes)] * 2))


def test_every_object_gets_its_boxes():
    """One to one for the decoder; for the proposals four each, and none for two objects."""
    batch = training.Scenes(0, 4).make(0)
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 40, len(batch.ids), generator=rng)
    boxes = torch.rand(4, 40, 4, generator=rng) * 0.4 + 0.3
    named = int((batch.phrase >= 0).sum())
    rows, queries, things = training.assign(logits, boxes, batch, None)
    assert len(rows) == named == len({*zip(rows.tolist(), things.tolist(), strict=True)})
    rows, queries, things = training.assign(logits, boxes, batch, 4)
    assert named < len(rows) <= 4 * named and len({*zip(rows.tolist(), queries.tolist(), strict=True)}) == len(rows)
    assert (batch.phrase[rows, things] >= 0).all()


def run(tmp_path, *command: str) -> dict:
    options = ["--cpu", "--batch", "2", "--workers", "0", "--warmup", "1", "--decay", "1"]
    arguments = training.parser().parse_args([*options, "--checkpoint", str(tmp_path), *command])
    training.train(arguments, **SMALL)
    return trained(tmp_path)


def test_training_resumes_where_it_stopped(tmp_path):
    run(tmp_path / "twice", "--steps", "1")
    resumed = run(tmp_path / "twice", "--steps", "2")
    whole = run(tmp_path / "once", "--steps", "2")
    assert resumed["step"] == 2 and len(resumed["records"]) == 2
    fresh = {n for n, p in training.build(**SMALL).named_parameters() if p.requires_grad}
    moved = 0
    for name, tensor in whole["model"].items():
        torch.testing.assert_close(resumed["model"][name], tensor, atol=1e-5, rtol=1e-4, msg=name)
        moved += name in fresh
    assert moved


def test_every_weight_that_is_used_learns():
    """transformers' own loss leaves the heads that choose the queries as they are."""
    torch.manual_seed(0)
    model = stirred(training.build(**SMALL))
    training.losses(model, training.Scenes(0, 2).make(0))["total"].backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(".swin.layernorm." in name for name in still), still


def test_loss_shrinks_on_one_batch():
    torch.manual_seed(0)
    model, batch = training.build(**SMALL), training.Scenes(0, 4).make(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found = []
    for _ in range(12):
        loss = training.losses(model, batch)["total"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.8 * found[0]


def test_export_opens_with_plain_transformers(detector_folder):
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    model, processor = (
        AutoModelForZeroShotObjectDetection.from_pretrained(detector_folder),
        AutoProcessor.from_pretrained(detector_folder),
    )
    state = load_checkpoint(detector_folder.parent / "last.pt")["model"]
    torch.testing.assert_close(model.state_dict()["model.level_embed"], state["model.level_embed"].half().float())
    inputs = processor(images=Image.new("RGB", (200, 100)), text="a cat. a red car.", return_tensors="pt")
    assert inputs["input_ids"].tolist() == [training.spell(["cat", "red car"])[0].tolist()]
    assert inputs["pixel_values"].shape == (1, 3, 128, 256)
    assert all(file.stat().st_size < 10_000_000 for file in detector_folder.iterdir())


def test_the_real_model_is_small_enough():
    model = training.build()
    assert sum(p.numel() for p in model.parameters()) < 4_500_000, "in float16 it must stay under 10 MB"


def test_registry_offers_the_hub_models():
    assert [name for name, spec in MODELS.items() if spec.family == "grounding_dino" and spec.tier == "hub"] == [
        "grounding-dino-tiny",
        "grounding-dino-base",
        "mm-grounding-dino-tiny",
    ]
