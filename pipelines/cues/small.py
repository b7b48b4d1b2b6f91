"""Small networks that learn to name pictures while a class watches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.errors import NotFinite
from pipelines.small_nets import BagNet, PatchCNN, SmallViT, initialised

SIZE = 32  # pixels, the side of their pictures
PATCH = 8  # pixels, of the bag and of both transformers
WEIGHT_DECAY = 1e-2
LOUDER = 25  # times: positions begin as loud as patches, else the order is not learned within a minute
MAKERS: dict[str, Callable[[], nn.Module]] = {  # by settings.NETWORKS
    "cnn": PatchCNN,
    "bag": lambda: BagNet(PATCH),
    "vit": lambda: SmallViT(PATCH, SIZE),
    "blind": lambda: SmallViT(PATCH, SIZE, positions=False),
}


class Naming(nn.Module):
    """A network and one linear layer: (B, 3, SIZE, SIZE) in [0, 1] to (B, names)."""

    def __init__(self, network: str, names: int):
        super().__init__()
        self.encoder = MAKERS[network]()
        self.head = nn.Linear(self.encoder.width, names)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.encoder(pixels))


def naming(network: str, names: int, seed: int) -> Naming:
    """With random weights, all from the seed. `network` is a key of settings.NETWORKS."""
    net = initialised(Naming(network, names), seed)
    if isinstance(net.encoder, SmallViT) and net.encoder.positions is not None:
        net.encoder.positions.data.mul_(LOUDER)
    return net


@torch.no_grad()
def told(net: nn.Module, pixels: Tensor, batch: int = 250) -> Tensor:
    """(N,) the name that is said; the network is left as it was."""
    before = net.training
    net.eval()
    try:
        return torch.cat([net(part).argmax(1) for part in pixels.split(batch)])
    finally:
        net.train(before)


def accuracy(net: nn.Module, pixels: Tensor, names: Tensor) -> float:
    return float((told(net, pixels) == names).double().mean())


@dataclass(frozen=True, kw_only=True)
class Batch:
    pixels: Tensor  # (B, 3, S, S)
    names: Tensor  # (B,)


def teach(net: Naming, batch: Callable[[], Batch], steps: int, rate: float) -> Iterator[float | None]:
    """Cross-entropy by AdamW, the rate falling to nothing along a cosine: the loss of each step, None before the first.

    Raises:
        NotFinite: when the loss is no number any more.
    """
    yield None
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=WEIGHT_DECAY)
    pace = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for _ in range(steps):
        known = batch()
        loss = F.cross_entropy(net(known.pixels), known.names)
        if not torch.isfinite(loss):
            raise NotFinite(
                "The loss is no number any more: the learning rate {rate} is too high. Choose a smaller one.",
                rate=f"{rate:g}",
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
        yield loss.item()
