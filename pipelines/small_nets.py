"""Networks small enough to be trained while a class watches: pictures of 32 pixels to one vector each.

All take (B, 3, H, W) in [0, 1] and give (B, `width`). `initialised` draws their weights from a seed, without touching
the process's own random numbers.
"""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


class Residual(nn.Module):
    """x + relu(norm(3x3 convolution of x))."""

    def __init__(self, width: int):
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.norm(self.convolution(x)))


def _convolution(inside: int, outside: int, side: int, stride: int, padding: int = 0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, side, stride, padding, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


class PatchCNN(nn.Module):
    """A 4x4 stem of stride 4, two residual blocks 64 wide, three convolutions 128 wide, the mean: 0.45 M weights."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.width = 128
        self.stem = _convolution(channels, 64, 4, 4)
        self.fine = nn.Sequential(Residual(64), Residual(64))  # 8x8 places of a picture of 32 pixels
        self.coarse = nn.Sequential(_convolution(64, 128, 3, 2, 1), Residual(128), Residual(128))  # 4x4 places

    def forward(self, pixels: Tensor) -> Tensor:
        return self.coarse(self.fine(self.stem(2 * pixels - 1))).mean((2, 3))


class BagNet(nn.Module):
    """One p x p convolution of stride p, then 1x1 alone, the mean: each place sees p x p pixels and nothing else, and
    the order of the places does not matter. After Brendel and Bethge 2019, https://arxiv.org/abs/1904.00760."""

    def __init__(self, patch: int = 8, width: int = 128, depth: int = 3):
        super().__init__()
        self.width = width
        layers = [_convolution(3, width, patch, patch)]
        layers += [_convolution(width, width, 1, 1) for _ in range(depth)]
        self.places = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.places(2 * pixels - 1).mean((2, 3))


class Block(nn.Module):
    """Attention and a perceptron, normalised first, by plain matrix products: at this size
    nn.TransformerEncoderLayer takes three times as long."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked = nn.Linear(width, 3 * width)
        self.told = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, tokens, width = x.shape
        split = self.asked(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        mixed = scores.softmax(-1) @ value
        return self.told(mixed.transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attend(self.norm_attention(x), mask)
        return x + self.perceptron(self.norm_perceptron(x))


class SmallViT(nn.Module):
    """Patches, attention, the mean over patches. Without positions the order of the patches does not matter."""

    def __init__(
        self,
        patch: int = 8,
        size: int = 32,
        width: int = 128,
        depth: int = 3,
        heads: int = 4,
        positions: bool = True,
    ):
        super().__init__()
        self.width, self.patch = width, patch
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.zeros((size // patch) ** 2, width)) if positions else None
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embed(2 * pixels - 1).flatten(2).transpose(1, 2)
        if self.positions is not None:
            x = x + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x).mean(1)


def initialised(net: Net, seed: int) -> Net:
    """The same network with weights drawn from the seed: normal, of variance 2 / inputs where a ReLU follows (He et al.
    2015, https://arxiv.org/abs/1502.01852, equation 10) and 1 / inputs elsewhere; biases 0, positions of spread 0.02.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                relu = isinstance(module, nn.Conv2d)
                spread = math.sqrt((2 if relu else 1) / module.weight[0].numel())
                module.weight.normal_(0, spread, generator=rng)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, SmallViT) and module.positions is not None:
                module.positions.normal_(0, 0.02, generator=rng)
    return net
