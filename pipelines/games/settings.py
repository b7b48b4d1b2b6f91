"""What can be set in each lesson: the page's controls, the endpoints' arguments and their limits."""

from dataclasses import dataclass

from pipelines.settings import SEED_LIMIT, Checked, setting

# ---------------------------------------------------------------------------------------------------------- two players

METHODS = {"gan": "GAN", "wgan": "WGAN with gradient penalty"}
MEDDLING = {
    "none": "both learn to the end",
    "freeze": "from half-way on the discriminator learns no more",
    "restart": "half-way the discriminator begins anew",
}


@dataclass(frozen=True, kw_only=True)
class PlayersSettings(Checked):
    method: str = setting("gan", "Game", choices=METHODS)
    critic_steps: int = setting(1, "Steps of the discriminator", "For each of the generator", low=1, high=10, step=1)
    rate_generator: float = setting(5e-4, "Learning rate of the generator", low=1e-5, high=0.1)
    rate_critic: float = setting(1e-3, "Learning rate of the discriminator", low=1e-5, high=0.1)
    meddling: str = setting("none", "Half-way", choices=MEDDLING)
    steps: int = setting(6000, "Steps", "Of the generator", low=100, high=12000, step=100)
    seed: int = setting(42, "Seed", "Of the weights and of all samples", low=0, high=SEED_LIMIT, step=1)


# -------------------------------------------------------------------------------------------------------- the architect

SIZES = (16, 32, 48)  # pixels
LAYERS = (1, 2, 3, 4)
CHANNELS = (8, 16, 32)
DECISIONS = {"size": SIZES, "layers": LAYERS, "channels": CHANNELS}
CHILDREN = tuple((size, layers, channels) for size in SIZES for layers in LAYERS for channels in CHANNELS)


def child_name(child: tuple[int, int, int]) -> str:
    size, layers, channels = child
    return f"{size} px, {layers} {'layer' if layers == 1 else 'layers'}, {channels} channels"


@dataclass(frozen=True, kw_only=True)
class ChildSettings(Checked):
    """One network of the table, trained from nothing."""

    size: int = setting(32, "Input size", choices={size: f"{size} pixels" for size in SIZES})
    layers: int = setting(3, "Layers", choices={layers: str(layers) for layers in LAYERS})
    channels: int = setting(16, "Channels", choices={channels: str(channels) for channels in CHANNELS})
    steps: int = setting(70, "Steps", "Of the optimiser, 64 pictures each", low=1, high=300, step=1)
    seed: int = setting(42, "Seed", "Of the weights and the batches", low=0, high=SEED_LIMIT, step=1)

    @property
    def child(self) -> tuple[int, int, int]:
        return self.size, self.layers, self.channels


@dataclass(frozen=True, kw_only=True)
class ArchitectSettings(Checked):
    """Three ways to choose what to train next, on a table in which everything is known."""

    children: int = setting(200, "Children", "Networks each way may train", low=8, high=400, step=4)
    price: float = setting(
        0.0, "Price of computing", "Taken off the accuracy for each million multiplications", low=0, high=1, step=0.01
    )
    rate: float = setting(0.02, "Learning rate", "Of the controller", low=1e-4, high=0.5)
    baseline: bool = setting(True, "Baseline", "The controller learns from what is better than usual, not from all")
    entropy: float = setting(0.0, "Reward for indecision", low=0, high=1, step=0.01)
    seeds: int = setting(10, "Seeds", "Everything so many times", low=1, high=20, step=1)
    seed: int = setting(42, "Seed", "The first of them", low=0, high=SEED_LIMIT, step=1)
