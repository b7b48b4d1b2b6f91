"""What can be set in each lesson: the page's controls, the endpoints' arguments and their limits."""

import math
from dataclasses import dataclass

from pipelines.models.registry import MODELS
from pipelines.settings import SEED_LIMIT, setting

# ----------------------------------------------------------------------------------------------------------- the matrix

CLIPS = {name: spec.title for name, spec in MODELS.items() if spec.family == "openclip"}
DIRECTIONS = {
    "rows": "each picture chooses a caption",
    "columns": "each caption chooses a picture",
    "both": "both, as CLIP",
}
FORMULAS = {"right": "(p − [i = j]) / N", "wrong": "−(1 − p) / N for every caption, as some notes have it"}
SHUFFLES = {
    "none": "as they are",
    "words": "the words of each caption in random order",
    "captions": "each picture gets the next one's caption",
}


@dataclass(frozen=True, kw_only=True)
class MatrixSettings:
    model: str = setting(
        "storybook-clip-b", "Model", "An image-text model: its two towers make the matrix.", choices=CLIPS
    )
    temperature: float = setting(
        0.2,
        "Temperature, τ",
        "Similarities are divided by it: small makes the nearest count alone.",
        noun="Temperature",
        low=0.01,
        high=1,
        step=0.01,
    )
    direction: str = setting("rows", "Who chooses", "Of which softmax the loss is taken.", choices=DIRECTIONS)
    formula: str = setting("right", "Derivative", "The wrong one has rows that do not sum to 0.", choices=FORMULAS)
    equal: bool = setting(False, "Equal similarities", "Both towers give every input the same vector: they collapsed.")
    shuffle: str = setting("none", "Captions", "Words, or whole captions, change places.", choices=SHUFFLES)
    seed: int = setting(42, "Seed", "Of the drawn pictures, and of what is shuffled.", low=0, high=SEED_LIMIT)


# -------------------------------------------------------------------------------------------------- what it can know

SIZES = tuple(2**k for k in range(1, 11))  # N
CRITICS = {"exact": "exact: the density ratio itself", "trained": "trained: two small networks, from nothing"}


@dataclass(frozen=True, kw_only=True)
class InformationSettings:
    dimensions: int = setting(8, "Dimensions", "How many pairs of correlated numbers.", low=1, high=16, step=1)
    correlation: float = setting(0.95, "Correlation", "Of the two numbers of a pair.", low=0, high=0.99, step=0.01)
    batch: int = setting(
        64, "Pairs in a batch, N", "One partner among N.", choices={size: f"{size:,}" for size in SIZES}
    )
    critic: str = setting("exact", "Critic", "What scores a pair.", choices=CRITICS)
    steps: int = setting(300, "Steps of training", "Of the trained critic.", low=10, high=3000, step=10)
    seed: int = setting(42, "Seed", "Of the numbers, and of the trained critic.", low=0, high=SEED_LIMIT)

    @property
    def truth(self) -> float:
        """Mutual information of the two vectors, nats: -d/2 ln(1 - r^2)."""
        return self.dimensions / 2 * abs(math.log1p(-(self.correlation**2)))


# ---------------------------------------------------------------------------------------------------------- negatives

LOSSES = {
    "ntxent": "NT-Xent: all others are pushed",
    "debiased": "debiased: a share of false negatives is taken off",
    "hard": "debiased, and the most similar count most",
    "unbiased": "unbiased: told the labels, false negatives are left out",
}


@dataclass(frozen=True, kw_only=True)
class ReadingSettings:
    temperature: float = setting(
        0.2,
        "Temperature, τ",
        "Small makes the most similar count most, whatever β is.",
        noun="Temperature",
        low=0.01,
        high=1,
        step=0.01,
    )
    eta: float = setting(
        0.0,
        "Share of false negatives, η⁺",
        "What the loss believes: how many negatives are false.",
        low=0,
        high=0.9,
        step=0.01,
    )
    beta: float = setting(0.0, "Hardness, β", "Weights grow as e^(β s).", low=0, high=4, step=0.1)
    unbiased: bool = setting(False, "Unbiased: told the labels", "False negatives are left out; η⁺ and β do nothing.")


@dataclass(frozen=True, kw_only=True)
class NegativesSettings:
    a: str = setting("ntxent", "Loss of A", "A and B see the same batches.", choices=LOSSES)
    b: str = setting("hard", "Loss of B", "A and B see the same batches.", choices=LOSSES)
    temperature: float = setting(0.5, "Temperature", "Of both losses.", low=0.05, high=1, step=0.05)
    eta: float = setting(
        0.17,
        "Share of false negatives, η⁺",
        "What the debiased losses believe. The truth is 1/6.",
        low=0,
        high=0.9,
        step=0.01,
    )
    beta: float = setting(1.0, "Hardness, β", "Of the hard loss: weights grow as e^(β s).", low=0, high=4, step=0.1)
    batch: int = setting(128, "Pictures in a batch", "Each is seen twice.", low=2, high=256, step=2)
    steps: int = setting(120, "Steps", "Of training.", low=2, high=400, step=2)
    seed: int = setting(42, "Seed", "Of the first weights, the batches and the views.", low=0, high=SEED_LIMIT)


# --------------------------------------------------------------------------------------------------------------- words

CORPORA = {"captions": "captions of drawn scenes", "tales": "tales of old and young animals", "own": "your own text"}
METHODS = {
    "skipgram": "skip-gram: the word tells each neighbour",
    "cbow": "CBOW: the neighbours together tell the word",
}
MOST_CHARACTERS = 20_000  # of your own text


@dataclass(frozen=True, kw_only=True)
class WordsSettings:
    corpus: str = setting("captions", "Text", "What is read.", choices=CORPORA)
    text: str = setting("", "Your own text", "Read where 'your own text' is chosen.", most=MOST_CHARACTERS)
    method: str = setting("skipgram", "Method", "What is told from what.", choices=METHODS)
    window: int = setting(3, "Window", "A neighbour is at most so many words away.", low=1, high=8, step=1)
    size: int = setting(32, "Length of a vector", low=2, high=64, step=1)
    negatives: int = setting(5, "Negatives, k", "Random words for each true one.", low=1, high=15, step=1)
    sentences: int = setting(2000, "Sentences", "Of captions or tales.", low=50, high=5000, step=50)
    age_told: bool = setting(
        True,
        "Tales tell the age",
        "Off: small and big, plays and works are dealt out at random.",
        noun="'Tales tell the age'",
    )
    steps: int = setting(1000, "Steps", "Of training.", low=10, high=5000, step=10)
    seed: int = setting(42, "Seed", "Of the text, the first vectors and the negatives.", low=0, high=SEED_LIMIT)


# ------------------------------------------------------------------------------------------------------ three readers

READERS = {  # names in the registry -> what the class calls them
    "storybook-reader-clip": "CLIP",
    "storybook-reader-simvlm": "SimVLM",
    "storybook-reader-coca": "CoCa",
}


@dataclass(frozen=True, kw_only=True)
class ReadersSettings:
    pictures: int = setting(
        100, "Pictures", "Never-seen scenes, each with its caption: one of so many is right.", low=10, high=100, step=10
    )
    seed: int = setting(42, "Seed", "Which scenes.", low=0, high=SEED_LIMIT)


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    beginning: str = setting(
        "", "The caption begins with", "Words they are given, true or not; they say the rest.", most=120
    )
