"""Words, tokens and subjects of prompts."""

import pytest

from pipelines import storybook
from pipelines.prompts import chosen_subjects, sketch


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
        ("on grass", []),
        ("", []),
        ("a", []),
    ],
)
def test_subjects_are_the_nouns_with_their_adjectives(text, subjects):
    assert found(text) == subjects


def test_every_prompt_of_the_set_has_its_two_subjects():
    prompts = storybook.prompt_set()
    assert len(prompts) == len(set(prompts)) == 276
    for prompt in prompts:
        subjects = sketch(prompt).subjects
        nouns = [word for word in prompt.split() if word in storybook.NOUNS]
        assert [subject.noun for subject in subjects] == nouns and len(nouns) == 2
        for subject in subjects:
            assert all(word in storybook.COLOURS for word in subject.adjectives)
            assert prompt.split()[subject.word] == subject.noun


def test_prompt_set_has_the_published_proportions():
    animals = [sum(word in storybook.ANIMALS for word in prompt.split()) for prompt in storybook.prompt_set()]
    assert [animals.count(n) for n in (2, 1, 0)] == [66, 144, 66]


def test_no_subject_says_what_to_do():
    with pytest.raises(ValueError, match="Click the words"):
        chosen_subjects(sketch("on grass"))
