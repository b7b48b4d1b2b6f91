"""What can be set in detection."""

from dataclasses import dataclass
from typing import Literal

from pipelines.models.registry import MODELS
from pipelines.settings import SEED_LIMIT, Checked, setting
from pipelines.world import storybook

MOST_CHARACTERS = 4000  # of words, and of true boxes
Backend = Literal["transformers", "groundingdino"]
BACKENDS: dict[Backend, str] = {
    "transformers": "transformers",
    "groundingdino": "groundingdino-py, by its authors",
}


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """What to look for, which boxes stay, and what they are held against."""

    prompt: str = setting(
        "", "Words to look for", "Dots in between; press Enter", noun="The line of words", most=MOST_CHARACTERS
    )
    box_threshold: float = setting(
        0.3, "Box threshold", "Keeps boxes from this score on", noun="The box threshold", low=0, high=1, step=0.01
    )
    text_threshold: float = setting(
        0.25,
        "Text threshold",
        "Names a box by words from this score on",
        noun="The text threshold",
        low=0,
        high=1,
        step=0.01,
    )
    nms_iou: float = setting(
        0.5,
        "Overlap limit (NMS)",
        "A box that overlaps a better one more, goes",
        noun="The overlap limit",
        low=0,
        high=1,
        step=0.01,
    )
    model: str = setting("storybook-grounding-dino", "Model", noun="The model")
    backend: Backend = setting("transformers", "Whose code runs the weights", noun="The backend", choices=BACKENDS)
    truth: str = setting(
        "",
        "True boxes",
        "phrase: x0 y0 x1 y1 in pixels; a semicolon between boxes. Empty: the scene's own",
        noun="The true boxes",
        most=MOST_CHARACTERS,
    )
    hide: tuple[str, ...] = setting((), "Hide", noun="The phrases to hide")
    faint: bool = setting(False, "Show boxes below the threshold", noun="Showing boxes below the threshold")
    compare: str = setting("", "Compare with", noun="The model beside it")  # "model/backend", or nothing


CLIPS = {name: spec.title for name, spec in MODELS.items() if spec.family == "openclip"}


@dataclass(frozen=True, kw_only=True)
class ThresholdSettings(Checked):
    """One question about many pictures, and where *yes* begins."""

    word: str = setting("cat", "Is there one of these?", noun="The word", choices={n: n for n in storybook.NOUNS})
    threshold: float = setting(
        0.25, "Threshold", "Yes from this similarity on", low=-1, high=1, step=0.01, slider=(-0.6, 0.8)
    )
    prevalence: float = setting(
        0.07, "Base rate", "The share of pictures that do hold one", low=0.001, high=0.999, step=0.001
    )
    cost: float = setting(
        1.0, "Cost of a false accusation", "In misses: one false alarm is as bad as so many misses", low=0.01, high=1000
    )
    model: str = setting("storybook-clip-b", "Model", noun="The model", choices=CLIPS)


# --------------------------------------------------------------------------------------------------- zero-shot masks

SPLITS = {  # the six nouns that never get a mask, by the one the question is about; every noun is in one of them
    storybook.ANIMALS[4 + place]: storybook.ANIMALS[place::4] + storybook.THINGS[place::4] for place in range(4)
}
NAMERS = {
    "learned": "a learned projection to CLIP's word vectors",
    "random": "a learned projection to random word vectors",
    "cutout": "CLIP itself, on what is under the mask",
}
CANDIDATES = {
    "generalised": "generalised: all 24 words compete",
    "conventional": "conventional: only the words of its own kind",
}


@dataclass(frozen=True, kw_only=True)
class MaskSettings(Checked):
    """Masks learned of 18 nouns and tried on 24, and who names them."""

    unseen: str = setting(
        "lion",
        "Without a mask",
        "Six things that are in no training picture",
        choices={k: ", ".join(v) for k, v in SPLITS.items()},
    )
    namer: str = setting("learned", "Who names the masks", choices=NAMERS)
    candidates: str = setting("generalised", "Candidates", "Which words may be said", choices=CANDIDATES)
    decoder: bool = setting(True, "Decoder", "The word's place must still tell what the features were")
    steps: int = setting(200, "Steps", "Of the optimiser", low=1, high=600, step=1)
    seed: int = setting(42, "Seed", "Of the weights, the batches and the random words", low=0, high=SEED_LIMIT, step=1)
