"""What can be set in drawing."""

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from pipelines.models.registry import MODELS, Sampler
from pipelines.settings import SEED_LIMIT, Checked, setting

MOST_CHARACTERS = 2000  # of a prompt; more are refused before any tokenizer sees them
Method = Literal["none", "attend-and-excite"]
METHODS: dict[Method, str] = {"none": "plain", "attend-and-excite": "Attend-and-Excite"}
SAMPLERS: dict[Sampler, str] = {"ddpm": "DDPM", "ddim": "DDIM", "euler": "Euler", "dpm++": "DPM++ 2M"}
Precision = Literal["float32", "bfloat16"]
USUAL = MODELS["storybook-diffusion"]  # a visitor's first model, and what it is usually asked for
UPDATE_SIZE = 20.0  # of Attend-and-Excite's latent updates (Chefer et al. 2023, https://arxiv.org/abs/2301.13826)


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """What to draw, and how."""

    prompt: str = setting(
        "a cat and a frog",
        "What to draw",
        "24 things, 11 colours, 5 places; press Enter",
        noun="The prompt",
        most=MOST_CHARACTERS,
    )
    negative_prompt: str = setting("", "Negative prompt", noun="The negative prompt", most=MOST_CHARACTERS)
    image: Image.Image | None = setting(None, "Picture", kind=Image.Image)  # to begin from, in place of noise
    strength: float = setting(  # share of the way back to noise that the picture goes
        0.6, "Strength", "How far back to noise", noun="The strength", low=0.05, high=1, step=0.05
    )
    steps: int = setting(USUAL.steps, "Steps", low=1, high=100, step=1)
    guidance_scale: float = setting(  # 1 and less: the conditional prediction alone
        USUAL.guidance, "Guidance", "1: the prompt alone", low=0, high=30, step=0.5
    )
    method: Method = setting("none", "Method", noun="The method", choices=METHODS)
    subjects: str = setting("", "Subjects", noun="The subjects", most=MOST_CHARACTERS)  # empty: the prompt's nouns
    seed: int = setting(42, "Seed", noun="The seed", low=0, high=SEED_LIMIT)
    model: str = setting(USUAL.name, "Model", noun="The model")
    sampler: Sampler = setting(
        USUAL.sampler, "Sampler", "DDPM adds fresh noise in every step", noun="The sampler", choices=SAMPLERS
    )
    scale: float = setting(
        UPDATE_SIZE,
        "Size of a latent update (Attend-and-Excite)",
        noun="The size of an update",
        low=0,
        high=100,
        step=1,
    )
    refine: bool = setting(
        True, "Repeat until the thresholds are reached", noun="Repeating until the thresholds are reached"
    )
    precision: Precision = "float32"
