"""What can be set in CLIP synthesis."""

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from pipelines.settings import SEED_LIMIT, Checked, setting

MOST_CHARACTERS = 2000  # of a prompt
Parametrization = Literal["latent", "pyramid", "fourier", "pixels"]
PARAMETRIZATIONS: dict[Parametrization, str] = {
    "latent": "an autoencoder's latents",
    "pyramid": "coarse to fine (pyramid)",
    "fourier": "waves (Fourier)",
    "pixels": "raw pixels",
}
VIEWS = {"with views": True, "without": False}  # two runs to compare: what each is called, and its `augment`


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """What to make, and how."""

    prompt: str = setting(
        "a cat",
        "What CLIP should see",
        "Several with weights: a cat:1 | a dog:-0.5; press Enter",
        noun="The prompt",
        most=MOST_CHARACTERS,
    )
    parametrization: Parametrization = setting(
        "latent", "Parametrization of the picture", noun="The parametrization", choices=PARAMETRIZATIONS
    )
    steps: int = setting(80, "Steps", low=1, high=500, step=5, slider=(5, 500))
    cutouts: int = setting(8, "Views at each step", noun="The number of views", low=1, high=64, step=1)
    augment: bool = setting(True, "Show CLIP varied views, not the plain picture", noun="Showing varied views")
    seed: int = setting(42, "Seed", noun="The seed", low=0, high=SEED_LIMIT)
    model: str = setting("storybook-clip-b", "Model", noun="The model")  # the one that is followed
    image: Image.Image | None = setting(None, "Begin from", kind=Image.Image)
    wanted: Image.Image | None = setting(None, "Come close to", kind=Image.Image)
    wanted_weight: float = setting(0.5, "How much it counts", noun="The weight of the picture", low=0, high=2, step=0.1)
    variation: float = setting(0.0, "Smoothness (total variation)", noun="Smoothness", low=0, high=20, step=0.5)
    saturation: float = setting(0.0, "Saturation", low=0, high=2, step=0.1)
    noise: float = setting(0.1, "Noise on the views", noun="The noise", low=0, high=0.3, step=0.02)
    autoencoder: str = setting("storybook-autoencoder", "Autoencoder of the latents", noun="The autoencoder")
    judge: str = "storybook-detailclip"  # the CLIP that is not followed
    rate: float | None = None  # learning rate; None: the parametrization's own
