"""Pixels of patches: to patches and back, and the decoder that predicts the ones that were removed, as in the
masked autoencoder (He et al. 2022, https://arxiv.org/abs/2111.06377).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from pipelines.models.vision import Tokens, residual_block

GROUPS = 8  # of channels that are normalised together, in `RefinementUNet`


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """(B, 3, H, W) -> (B, N, p*p*3), patches row by row, channels last within a patch. Inverse: `unpatchify`."""
    batch, channels, height, width = pixels.shape
    x = pixels.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """(B, N, p*p*3) -> (B, 3, H, W) for a square grid."""
    batch, count, size = patches.shape
    grid, channels = math.isqrt(count), size // patch**2
    x = patches.reshape(batch, grid, grid, patch, patch, channels)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, grid * patch, grid * patch)


def pixel_target(pixels: Tensor, patch: int, normalise: bool) -> Tensor:
    """(B, N, p*p*3) what the decoder has to predict: the model's normalised pixels, or each patch standardised alone.

    The default differs from the paper, which standardises patches: predictions of standardised patches cannot be shown
    without lending them the true mean and deviation.
    """
    target = patchify(pixels, patch)
    if not normalise:
        return target
    return (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()


def lower_resolution(pixels: Tensor, factor: int) -> Tensor:
    """(B, 3, H, W) -> the same size with only 1/factor of the detail: area-averaged down, bicubic up."""
    small = F.interpolate(pixels, scale_factor=1 / factor, mode="area")
    return F.interpolate(small, size=pixels.shape[-2:], mode="bicubic", align_corners=False)


def blur_some(pixels: Tensor, share: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Take a half or a quarter of the resolution from a random share of the pictures (B, 3, H, W).

    Returns:
        The pictures, and (B,) bool, which of them are blurred.
    """
    blurred = torch.rand(len(pixels), generator=generator).to(pixels.device) < share
    if not blurred.any():
        return pixels, blurred
    factor = int(torch.randint(1, 3, (), generator=generator)) * 2
    return torch.where(blurred[:, None, None, None], lower_resolution(pixels, factor), pixels), blurred


def sincos_positions(grid: int, width: int) -> Tensor:
    """(1 + grid*grid, width): fixed sine-cosine positions, zero for the class token (MAE, appendix A.1)."""
    frequency = 10000.0 ** (-torch.arange(width // 4) / (width // 4))
    angle = torch.arange(grid)[:, None] * frequency  # (g, width/4)
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # (g, width/2)
    across, down = axis.repeat(grid, 1), axis.repeat_interleave(grid, dim=0)
    return torch.cat([torch.zeros(1, width), torch.cat([across, down], dim=1)])


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What the decoder made of the kept tokens, for every patch, removed or not."""

    tokens: Tensor  # (B, N, D)
    predicted: Tensor  # (B, N, p*p*3) float32, pixels
    fill: Tensor  # (B, N, p*p*3) what it added to: zeros, or with `decode_on_fill` the harmonic fill


class PixelDecoder(nn.Module):
    """Kept tokens -> a token and the pixels of every patch, as in MAE: mask tokens appear only here."""

    positions: Tensor

    def __init__(
        self,
        width: int,
        grid: int,
        patch: int,
        layers: int,
        heads: int,
        on_fill: bool = False,
        refinement: Sequence[int] | None = None,
    ):
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("positions", sincos_positions(grid, width), persistent=False)
        self.blocks = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.to_pixels = nn.Linear(width, patch * patch * 3)
        self.local_context = LocalContext(width, patch) if on_fill else None
        if on_fill:
            nn.init.zeros_(self.to_pixels.weight)  # who knows nothing adds nothing to the fill
            nn.init.zeros_(self.to_pixels.bias)
        self.refinement = RefinementUNet(width, patch, refinement) if on_fill and refinement else None

    def forward(
        self,
        tokens: Tokens,
        kept: Tensor | None,
        fill: Tensor | None = None,
        seen: Tensor | None = None,
        refined: bool = True,
    ) -> Decoded:
        """Tokens of the patches `kept` (B, M), and what to add to: see `LocalContext`. None is a blank canvas.

        Whoever wants the tokens and not the pixels need not wait for the refinement: `refined` False.
        """
        x = self.embed(torch.cat([tokens.cls[:, None], tokens.patches], dim=1))  # (B, 1+M, D)
        count = len(self.positions) - 1
        if kept is not None:
            full = self.mask_token.to(x.dtype).expand(len(x), count, -1)
            filled = full.scatter(1, kept[..., None].expand(-1, -1, x.shape[-1]), x[:, 1:])
            x = torch.cat([x[:, :1], filled], dim=1)  # (B, 1+N, D)
        x = x + self.positions.to(x.dtype)
        near = None
        if self.local_context is not None:
            assert fill is not None and seen is not None, "a decoder with `decode_on_fill` needs a canvas"
            near = self.local_context(fill, seen)
            x = torch.cat([x[:, :1], x[:, 1:] + self.local_context.to_token(near).to(x.dtype)], dim=1)
        for block in self.blocks:
            x, _ = residual_block(block, x)
        x = self.norm(x)[:, 1:]
        predicted = self.to_pixels(x).float()
        if self.local_context is None or near is None or fill is None or seen is None:
            return Decoded(tokens=x, predicted=predicted, fill=torch.zeros_like(predicted))
        canvas = patchify(fill, self.patch)
        predicted = canvas + predicted + self.local_context.to_pixels(near).float()
        if self.refinement is not None and refined:
            predicted = self.refinement(predicted, fill, seen, x)
        return Decoded(tokens=x, predicted=predicted, fill=canvas)


class LocalContext(nn.Module):
    """What lies around a patch on the harmonic fill: the patch and its eight neighbours.

    Differs from the paper, whose decoder begins with nothing and knows kept patches by their tokens alone. A model of
    an hour's training would spend it on learning to interpolate, and could never return a sharper picture than the
    blurred one it got; and a token that has learnt what its patch means has forgotten where exactly an outline leaves
    it. So the decoder sees the harmonic fill of the visible pixels, and predicts what that lacks.
    """

    def __init__(self, width: int, patch: int):
        super().__init__()
        self.patch, hidden = patch, 4 * width
        self.embed = nn.Linear(3 * (3 * patch) ** 2 + 9, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.to_token = nn.Linear(hidden, width, bias=False)
        self.to_pixels = nn.Linear(hidden, patch * patch * 3, bias=False)
        nn.init.zeros_(self.to_token.weight)
        nn.init.zeros_(self.to_pixels.weight)

    def around(self, fill: Tensor, seen: Tensor, patches: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What lies around the `patches` (B, M), None for all: (B, M, 3, 3p, 3p) pixels less their mean colour, and
        (B, M, 3, 3), which of the nine patches were seen."""
        p, grid = self.patch, seen.shape[-1] // self.patch
        pixels = F.pad(fill, (p,) * 4, mode="replicate").unfold(2, 3 * p, p).unfold(3, 3 * p, p)
        known = seen[..., p // 2 :: p, p // 2 :: p]  # a patch is seen whole or not at all
        known = F.pad(known, (1,) * 4, mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1)[:, 0]
        if patches is None:
            pixels, known = pixels.permute(0, 2, 3, 1, 4, 5).flatten(1, 2), known.flatten(1, 2)
        else:
            row, column = patches // grid, patches % grid
            batch = torch.arange(len(fill), device=fill.device)[:, None]
            pixels, known = pixels[batch, :, row, column], known[batch, row, column]
        return pixels - pixels.mean((-1, -2), keepdim=True), known

    def read(self, pixels: Tensor, known: Tensor) -> Tensor:
        """What `around` returns -> (B, M, 4D)."""
        near = F.gelu(self.embed(torch.cat([pixels.flatten(-3), known.flatten(-2)], dim=-1)))
        for layer in self.layers:
            near = near + F.gelu(layer(near))
        return near

    def forward(self, fill: Tensor, seen: Tensor) -> Tensor:
        """(B, 3, H, W) filled pixels and (B, 1, H, W), 1 where they were seen -> (B, N, 4D)."""
        return self.read(*self.around(fill, seen))


class RefinementUNet(nn.Module):
    """Refine the predicted picture, seeing all of it: a small U-Net (Ronneberger et al. 2015,
    https://arxiv.org/abs/1505.04597) on three grids, half a patch, a patch and two patches wide.

    Differs from the paper. A patch and its neighbours, all that `LocalContext` sees, do not tell what a thing is.

    It refines the picture and its mirror image, and takes the mean. The world knows no left and right, so where
    the two differ neither is sure, and the squared error of their mean is at most the mean of their squared errors.
    """

    def __init__(self, width: int, patch: int, channels: Sequence[int]):
        """`width` of the decoder's tokens; `channels` of the three grids, finest first, each a multiple of GROUPS."""
        super().__init__()
        fine, middle, coarse = channels
        self.patch, self.cell = patch, patch // 2
        self.stem = nn.Conv2d(7 * self.cell**2, fine, 3, padding=1)
        self.from_token = nn.Linear(width, middle, bias=False)
        self.fine, self.fine_again = Residual(fine), Residual(fine)
        self.middle, self.middle_again = Residual(middle), Residual(middle)
        self.coarse = nn.Sequential(*[Residual(coarse) for _ in range(3)])
        self.to_middle, self.to_coarse = nn.Conv2d(fine, middle, 2, stride=2), nn.Conv2d(middle, coarse, 2, stride=2)
        self.from_coarse = nn.ConvTranspose2d(coarse, middle, 2, stride=2)
        self.from_middle = nn.ConvTranspose2d(middle, fine, 2, stride=2)
        self.norm, self.to_pixels = nn.GroupNorm(GROUPS, fine), nn.Conv2d(fine, 3 * self.cell**2, 1)
        for parameter in (self.from_token.weight, *self.to_pixels.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, predicted: Tensor, fill: Tensor, seen: Tensor, tokens: Tensor | None) -> Tensor:
        """Predicted patches (B, N, p*p*3), the fill (B, 3, H, W), what of it was seen (B, 1, H, W) and the decoder's
        tokens (B, N, D), None for none -> predicted patches."""
        picture = torch.cat([unpatchify(predicted, self.patch), fill, seen], dim=1)
        x = F.pixel_unshuffle(torch.cat([picture, picture.flip(-1)]), self.cell)
        fine = self.fine(self.stem(x.contiguous(memory_format=torch.channels_last)))
        middle = self.to_middle(fine)
        if tokens is not None:
            told = self.from_token(tokens).transpose(1, 2).unflatten(2, middle.shape[-2:])
            middle = middle + torch.cat([told, told.flip(-1)])
        middle = self.middle(middle)
        coarse = self.coarse(self.to_coarse(middle))
        middle = self.middle_again(middle + self.from_coarse(coarse))
        fine = self.fine_again(fine + self.from_middle(middle))
        better, mirrored = F.pixel_shuffle(self.to_pixels(self.norm(fine)).float(), self.cell).chunk(2)
        return predicted + patchify((better + mirrored.flip(-1)) / 2, self.patch)


class Residual(nn.Module):
    """x + what two convolutions make of it; at first nothing."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(self.norm(x))))
