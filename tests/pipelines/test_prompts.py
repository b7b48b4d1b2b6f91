"""Words, tokens and subjects of prompts."""

import types
from typing import Any

import pytest

from pipelines.diffusion.prompts import chosen_subjects, read_with, sketch
from pipelines.errors import UserError
from pipelines.models.registry import MODELS
from pipelines.training import tokenizer
from pipelines.world import storybook
from pipelines.world.prompts import prompt_set


def found(text: str) -> list[str]:
    return [subject.phrase for subject in sketch(text).subjects]


@pytest.mark.parametrize(
    "text, subjects",
    [
        ("a cat and a frog", ["cat", "frog"]),
        ("a lion with a crown", ["lion", "crown"]),
        ("a elephant and a orange suitcase", ["elephant", "orange suitcase"]),
        ("A Green Bowl and a RED car", ["green bowl", "red car"]),
        ("a picture of a cat, a dog and a red car on grass", ["cat", "dog", "red car"]),
        ("a blue balloon in the sky", ["blue balloon"]),
        ("a turtle at night", ["turtle"]),
        ("a cat on a table", ["cat", "table"]),
        ("a cat sitting on a wooden bench", ["cat", "wooden bench"]),
        ("a photo of an astronaut riding a horse on the moon", ["astronaut", "horse"]),
        ("cats and dogs", ["cats", "dogs"]),
        ("a small, fluffy dog", ["small", "fluffy dog"]),
        ("two cats", ["cats"]),
        ("a cat and a cat", ["cat", "cat"]),
        ("a black and white cat", ["black and white cat"]),
        ("a red and blue car", ["red and blue car"]),
        ("a red, green and blue car", ["red green and blue car"]),
        ("a black-and-white cat and a dog", ["black-and-white cat", "dog"]),
        ("a dark red & light blue car", ["dark red & light blue car"]),
        ("a cat with a red and blue bow", ["cat", "red and blue bow"]),
        ("red and blue cars", ["red and blue cars"]),
        ("a red and a blue car", ["red car", "blue car"]),
        ("a red, a green and a blue car", ["red car", "green car", "blue car"]),
        ("an orange and an apple", ["orange", "apple"]),
        ("the cat is black and white", ["cat"]),
        ("a car in red and blue", ["car"]),
        ("a red ring", ["red ring"]),
        ("猫、狗", ["猫", "狗"]),
        ("قطة، كلب", ["قطة", "كلب"]),
        ("एक बिल्ली। एक कुत्ता", ["एक बिल्ली", "एक कुत्ता"]),
        ("a 👩🏽\u200d🚀 and a 🐱", ["👩🏽\u200d🚀", "🐱"]),
        ("a cafe\u0301 and a dog.A cat", ["cafe\u0301", "dog", "cat"]),
        ("on grass", []),
        ("", []),
        ("a", []),
    ],
)
def test_subjects_are_the_nouns_with_their_adjectives(text, subjects):
    assert found(text) == subjects


def test_every_prompt_of_the_set_has_its_two_subjects():
    prompts = prompt_set()
    assert len(prompts) == len(set(prompts)) == 276
    for prompt in prompts:
        subjects = sketch(prompt).subjects
        nouns = [word for word in prompt.split() if word in storybook.NOUNS]
        assert [subject.noun for subject in subjects] == nouns and len(nouns) == 2
        for subject in subjects:
            assert all(word in storybook.COLOURS for word in subject.adjectives)
            assert prompt.split()[subject.word] == subject.noun


def test_prompt_set_has_the_published_proportions():
    animals = [sum(word in storybook.ANIMALS for word in prompt.split()) for prompt in prompt_set()]
    assert [animals.count(n) for n in (2, 1, 0)] == [66, 144, 66]


COLOURS = list(storybook.COLOURS)


@pytest.mark.parametrize("noun", ["cat", "car", "hat", "猫"])
@pytest.mark.parametrize("n", range(0, len(COLOURS), 3))
def test_colours_joined_are_one_things_and_colours_with_articles_are_of_several(noun, n):
    first, second, third = (COLOURS[(n + step) % len(COLOURS)] for step in (0, 1, 2))
    for text in (
        f"{first} and {second}",
        f"{first}, {third} and {second}",
        f"{first}-and-{second}",
        f"{first} & {second}",
    ):
        (subject,) = sketch(f"a {text} {noun}").subjects
        assert subject.noun == noun
        assert [s.noun for s in sketch(f"a {text} {noun} and a frog").subjects] == [noun, "frog"]
    two = sketch(f"a {first} and a {second} {noun}").subjects
    assert [(s.noun, s.adjectives) for s in two] == [(noun, (first,)), (noun, (second,))]
    assert two[0].word != two[1].word, "each has a place of its own"


def read(text: str, subjects: str) -> list[tuple[str, int, tuple[int, ...]]]:
    tiny = types.SimpleNamespace(tokenizer=tokenizer.pretrained())
    model: Any = types.SimpleNamespace(pipe=tiny, vocabulary=None, spec=MODELS["storybook-diffusion"])
    return [(s.phrase, s.word, s.tokens) for s in read_with(model, text, subjects).subjects]


def test_a_place_stays_a_place():
    """Of equal words the one that is meant, not the first of that name."""
    text = "a cat and a black cat and a red and a blue car"
    assert read(text, "cat #2") == [("cat", 1, (2,))]
    assert read(text, "black cat #6") == [("black cat", 5, (6,))]
    assert read(text, "cat #6, cat #2") == [("cat", 5, (6,)), ("cat", 1, (2,))]
    assert read(text, "#6") == [("black cat", 5, (6,))] and read(text, "#5") == [("black", 4, (5,))]
    assert [place for _, place, _ in read(text, "red car, blue car")] == [8, 12]
    for wrong in ("cat #1", "cat #99", "cat #0", "#0", "cat #2, cat #2", "dog #2"):
        with pytest.raises(UserError, match="is not in the prompt"):
            read(text, wrong)


def test_subjects_are_named_as_they_are_meant():
    text = "a cat and a red car on grass"
    for name in ("Red car", "the red cars", "a  red car", "RED CAR."):
        assert read(text, name) == [("red car", 5, (6,))]
    assert read(text, "cat, cars") == [("cat", 1, (2,)), ("car", 5, (6,))]


@pytest.mark.parametrize("pieces", [1, 21, 22])
def test_the_longest_prompt_that_fits_is_read(pieces):
    assert len(read(" ".join(["cat"] * pieces), "cat")) == 1


@pytest.mark.parametrize("pieces", [23, 24, 100])
def test_the_first_that_does_not_fit_is_refused_with_its_number(pieces):
    with pytest.raises(UserError, match=f"at most 22 pieces of words, and this prompt has {pieces}"):
        read(" ".join(["cat"] * pieces), "cat")


def test_no_subject_says_what_to_do():
    with pytest.raises(ValueError, match="Click the words"):
        chosen_subjects(sketch("on grass"))
