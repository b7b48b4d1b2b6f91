"""The prompts over which missing objects are counted."""

import itertools

import numpy as np

from pipelines.world import storybook

WORN = ("glasses", "crown", "bow")  # what the prompt set joins to an animal by "with", without a colour


def prompt_set() -> list[str]:
    """276 prompts with two objects each, after the prompt set of Attend-and-Excite: 66 pairs of animals, 144 of an
    animal and a thing, 66 of two things. Pairs and grammar are its own; colours are drawn here once and for all, so
    that they are spread evenly."""
    rng = np.random.default_rng(276)

    def coloured(thing: str, other_than: str = "") -> str:
        return f"{rng.choice([colour for colour in storybook.COLOURS if colour != other_than])} {thing}"

    prompts = [
        f"{storybook.article(a)} and {storybook.article(b)}" for a, b in itertools.combinations(storybook.ANIMALS, 2)
    ]
    for animal, thing in itertools.product(storybook.ANIMALS, storybook.THINGS):
        joined = f"with {storybook.article(thing)}" if thing in WORN else f"and {storybook.article(coloured(thing))}"
        prompts.append(f"{storybook.article(animal)} {joined}")
    for a, b in itertools.combinations(storybook.THINGS, 2):
        first = coloured(a)
        prompts.append(f"{storybook.article(first)} and {storybook.article(coloured(b, first.split()[0]))}")
    return prompts
