"""Three readers: who sees whom, what each loss asks, and what the bundled ones find and say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.contrast import readers
from pipelines.contrast.readers import (
    Frame,
    Marks,
    Word,
    agreement,
    describe,
    find,
    known,
    look,
    looked_at,
    reach,
    sentence,
    told,
)
from pipelines.contrast.settings import READERS, CaptionSettings, ReadersSettings
from pipelines.contrast.verdicts import of_readers
from pipelines.errors import UserError
from pipelines.models.loading import load
from pipelines.models.readers import Reader, looking, prefix_mask, watch_attention
from pipelines.models.registry import MODELS
from pipelines.training import tokenizer
from pipelines.training.readers import LOSSES, SIZE, build, clip_loss, coca_loss
from pipelines.training.readers import MODELS as KINDS
from pipelines.world import storybook

CAPTION = "a cat and a red car on snow"
DESCRIBING = ("simvlm", "coca")


def fresh(kind: str) -> Reader:
    """An untrained reader, in float64."""
    torch.manual_seed(0)
    module = build(kind).double().eval().requires_grad_(False)
    return Reader(
        spec=MODELS[f"storybook-reader-{kind}"],
        module=module,
        tokenizer=tokenizer.pretrained(),
        context=tokenizer.CONTEXT_LENGTH,
        size=SIZE,
        mean=(0.5,) * 3,
        deviation=(0.25,) * 3,
    )


@pytest.fixture(scope="module")
def kinds() -> dict[str, Reader]:
    return {kind: fresh(kind) for kind in KINDS}


def noise(count: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------- who sees whom


def test_prefix_is_seen_whole_and_the_rest_word_by_word():
    seen = prefix_mask(2, 4) == 0
    assert seen.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("kind", DESCRIBING)
@pytest.mark.parametrize("place", [2, 4, 6])
def test_a_changed_word_changes_nothing_before_it(kinds, kind, place):
    reader = kinds[kind]
    ids = reader.ids([CAPTION])
    other = ids.clone()
    other[0, place] = reader.id_of("dog")
    patches = reader.see(noise())
    before, after = reader.logits(patches, ids), reader.logits(patches, other)
    changes = (before - after).abs().amax(-1)[0]
    assert changes[:place].max() < 1e-12 < 1e-6 < changes[place]


def test_given_words_see_one_another_in_simvlm_alone(kinds):
    for kind, sees in (("simvlm", True), ("coca", False)):
        reader = kinds[kind]
        ids = reader.ids([CAPTION])
        other = ids.clone()
        other[0, 3] = reader.id_of("dog")
        patches = reader.see(noise())
        change = (reader.logits(patches, ids, 5) - reader.logits(patches, other, 5)).abs().amax(-1)[0]
        assert (change[1] > 1e-6) == sees


@pytest.mark.parametrize("kind", KINDS)
def test_the_maps_are_those_of_the_papers(kinds, kind):
    """Every cell, by changing what goes in: two towers, a prefix, a half that sees no picture and one that does."""
    reader, given = kinds[kind], 3
    inputs, found = reach(reader, noise(), CAPTION, given)
    rows, words = reader.grid[0], len(inputs) - reader.grid[0]
    assert list(inputs[rows:]) == ["[START]", *CAPTION.split(), "[END]"]
    causal = np.tril(np.ones((words, words), bool))
    sees, blind = np.ones((words, rows), bool), np.zeros((words, rows), bool)
    parts = {reached.part: reached.seen for reached in found}
    if kind == "simvlm":
        whole = (prefix_mask(rows + given, rows + words) == 0).numpy()
        whole[:rows, :rows] = True  # its image tower comes before
        assert list(parts) == ["patches and words in one sequence"]
        assert (parts["patches and words in one sequence"] == whole).all()
        return
    assert (parts["image tower"] == np.hstack([np.ones((rows, rows), bool), np.zeros((rows, words), bool)])).all()
    assert (parts["text tower"] == np.hstack([blind, causal])).all()
    assert ("decoder" in parts) == (kind == "coca")
    if kind == "coca":
        assert (parts["decoder"] == np.hstack([sees, causal])).all()


@pytest.mark.parametrize("kind", DESCRIBING)
def test_looking_in_changes_nothing_and_leaves_nothing(kinds, kind):
    reader = kinds[kind]
    patches, ids = reader.see(noise()), reader.ids([CAPTION])
    plain = reader.logits(patches, ids)
    with watch_attention(looking(reader)) as maps:
        watched = reader.logits(patches, ids)
    assert (plain - watched).abs().max() < 1e-12 and len(maps) == len(looking(reader))
    assert all((layer.sum(-1) - 1).abs().max() < 1e-12 for layer in maps)
    reader.logits(patches, ids)
    assert len(maps) == len(looking(reader))
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in looking(reader))


# ---------------------------------------------------------------------------------------------------------- the losses


def gradients(loss, module, pixels, ids) -> dict[str, torch.Tensor | None]:
    module.zero_grad()
    loss(module, pixels, ids, 1)["total"].backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def test_coca_without_its_captions_learns_as_clip():
    torch.manual_seed(0)
    module, pixels = build("coca").double(), noise(6)
    ids = fresh("coca").ids([f"a {colour} car on sand" for colour in ("red", "blue", "green", "black", "pink", "gray")])
    alone = gradients(clip_loss, module, pixels, ids)
    both = gradients(lambda *given: coca_loss(*given, caption_weight=0.0), module, pixels, ids)
    for name, gradient in both.items():
        if name.startswith("text_decoder"):
            assert gradient is None or not gradient.any()
        else:
            assert torch.allclose(gradient, alone[name], rtol=1e-9, atol=1e-12), name
    assert gradients(coca_loss, module, pixels, ids)["text_decoder.text_projection"].abs().max() > 0


@pytest.mark.parametrize("kind", DESCRIBING)
def test_likelihood_is_the_product_of_the_words(kinds, kind):
    reader = kinds[kind]
    patches, ids = reader.see(noise()), reader.ids([CAPTION, "a dog"])
    for line, found in zip(ids, reader.likelihoods(patches, ids), strict=True):
        count = int((line != reader.id_of("[PAD]")).sum())
        by_hand = sum(
            float(reader.logits(patches, line[None, :t])[0, -1].float().log_softmax(0)[line[t]])
            for t in range(1, count)
        )
        assert abs(by_hand - float(found)) < 1e-4


def test_simvlm_learns_the_words_that_are_not_given(kinds):
    reader = kinds["simvlm"]
    pixels, ids, given = noise(1), reader.ids([CAPTION]), 3
    loss = float(LOSSES["simvlm"](reader.module, pixels, ids, given)["total"])
    count = int((ids != reader.id_of("[PAD]")).sum())
    said = reader.logits(reader.see(pixels), ids, given)[0].float().log_softmax(-1)
    assert loss == pytest.approx(-np.mean([float(said[t - 1, ids[0, t]]) for t in range(given, count)]), abs=1e-5)


# ---------------------------------------------------------------------------------------------------------- describing


@pytest.mark.parametrize("kind", DESCRIBING)
def test_a_caption_goes_on_from_its_beginning(kinds, kind):
    reader = kinds[kind]
    words = describe(reader, reader.see(noise()), "a red")
    assert [word.text for word in words[:2]] == ["a", "red"] and [word.given for word in words[:3]] == [
        True,
        True,
        False,
    ]
    assert len(words) <= reader.context - 2
    assert all(0 < word.probability <= 1 and word.looked.sum() == pytest.approx(1) for word in words)
    ids = reader.ids(["a red"])[:, :3]
    likeliest = reader.logits(reader.see(noise()), ids, 3)[0, -1].argmax()
    assert words[2].text == reader.tokenizer.convert_ids_to_tokens(int(likeliest))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("text", "told_what"), [("a zebra", "'zebra'"), ("a " * 40, "at most 22 words")])
def test_what_cannot_be_read_is_said(kinds, kind, text, told_what):
    with pytest.raises(UserError, match=told_what):
        kinds[kind].ids([text])


def test_captions_are_judged_by_what_they_say():
    assert told("a red car and a cat on snow") == told("a cat with a red car in snow")
    assert told("a red car on snow") != told("a blue car on snow") != told("a blue car on sand")
    assert agreement("a cat on snow", "a cat and a dog on snow") == (False, 1, 1, 2)
    assert agreement("a cat and a cat on snow", "a cat on snow") == (False, 1, 2, 1)
    assert agreement("a dog, a cat and a red car on sand", "a cat, a red car and a dog on sand") == (True, 3, 3, 3)


def test_every_caption_of_an_exam_is_another_one_and_never_seen_in_training():
    world = readers.scenes(ReadersSettings(pictures=100, seed=7))
    assert len({told(scene.full_caption) for scene in world}) == 100
    assert [s.full_caption for s in world] == [s.full_caption for s in readers.scenes(ReadersSettings(seed=7))]
    assert [s.full_caption for s in world] != [s.full_caption for s in readers.scenes(ReadersSettings(seed=8))]
    assert storybook.TEST.start >= storybook.TRAIN.stop


# ---------------------------------------------------------------------------------------------------------- the verdict


def marks(model: str, right: int, of: int = 50) -> Marks:
    """So many of its pictures found, and described rightly where it describes."""
    scores = np.zeros((of, of), np.float32)
    for i in range(of):
        scores[i, i if i < right else (i + 1) % of] = 1
    silent = model.endswith("clip")
    return Marks(
        model=model,
        parameters=1,
        scores=scores,
        exact=() if silent else tuple(i < right for i in range(of)),
        nouns=(1, 1, 1),
        looks=(),
        find_ms=1.0,
        describe_ms=None if silent else 1.0,
    )


@pytest.mark.parametrize(("right", "answer"), [((9, 45, 30), "simvlm"), ((9, 30, 45), "coca"), ((9, 44, 45), "same")])
def test_the_verdict_names_who_describes_better_where_that_can_be_told(right, answer):
    frame = Frame(marks=tuple(map(marks, READERS, right)), step=150, steps=150, seconds=1.0)
    assert of_readers(frame, answer).right and of_readers(frame, "coca").right == (answer == "coca")
    assert f"SimVLM {right[1] / 50:.0%}, CoCa {right[2] / 50:.0%}" in of_readers(frame).text


def test_shares_are_counted_both_ways():
    found = marks("storybook-reader-coca", 40)
    assert found.captions_found == 0.8 and found.figures["pictures_found"] == pytest.approx(0.8, abs=0.02)
    assert "pictures_found" not in replace(found, scores=found.scores[:10]).figures
    assert found.figures["captions_exact"] == 0.8 and found.figures["noun_recall"] == 1
    assert set(marks("storybook-reader-clip", 40).figures) == {"captions_found", "pictures_found", "find_ms"}


def test_a_look_is_held_against_the_thing_it_names():
    scene = storybook.scene(storybook.TEST[3], count=1)
    thing = scene.objects[0]
    anywhere = np.full((8, 8), 1 / 64)
    inside = np.asarray(Image.fromarray(thing.mask.astype(np.float32)).resize((8, 8), Image.Resampling.BOX))
    looks = (anywhere, inside / inside.sum())
    words = [Word(text=thing.noun, probability=1.0, looked=look, given=False) for look in looks]
    (blind, area), (seeing, _) = looked_at(words, scene)
    assert blind == pytest.approx(area) == pytest.approx(float(thing.mask.mean()), abs=1e-3) and seeing > 2 * area
    assert looked_at([replace(words[0], text="on")], scene) == looked_at([replace(words[0], given=True)], scene) == []


# ---------------------------------------------------------------------------------------------------------- the bundled


@pytest.fixture(scope="module")
def exam() -> Frame:
    return list(readers.run(ReadersSettings(pictures=30, seed=1)))[-1]


def test_the_bundled_find_and_describe_what_they_have_not_seen(exam):
    clip, simvlm, coca = exam.marks
    assert clip.captions_found > 0.8 and coca.captions_found > 0.8 and simvlm.captions_found > 0.5
    assert "captions_exact" not in clip.figures
    assert simvlm.figures["captions_exact"] > 0.5 and coca.figures["captions_exact"] > 0.7
    assert simvlm.find_ms > 3 * clip.find_ms
    assert exam.step == exam.steps == 90


def test_a_picture_is_read_by_all_three():
    scene = storybook.scene(storybook.TEST[12])
    others = [s.full_caption for s in readers.scenes(ReadersSettings(pictures=20))]
    found = look(CaptionSettings(), Image.fromarray(scene.picture), scene.full_caption, others)
    assert found.captions[found.truth] == scene.full_caption and len(found.captions) == 20
    clip, simvlm, coca = found.readings
    assert not clip.words and clip.place == 1
    assert {noun for noun, _ in told(sentence(coca.words)).things} & {o.noun for o in scene.objects}
    assert [len(reading.reach) for reading in found.readings] == [2, 1, 3]


def test_vectors_are_compared_as_cosines():
    reader = load("storybook-reader-coca", Reader)
    scene = storybook.scene(storybook.TEST[5])
    pixels = reader.pixels([Image.fromarray(scene.picture)])
    scores = find(reader, pixels, known(reader, [scene.full_caption, "a cat"]))
    by_hand = torch.nn.functional.cosine_similarity(
        reader.module.encode_image(pixels), reader.module.encode_text(reader.ids([scene.full_caption, "a cat"]))
    )
    assert torch.allclose(scores, by_hand, atol=1e-5)
