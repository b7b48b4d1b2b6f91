"""Ways to write down a picture so that a gradient can change it. Same objective, other parametrization, other picture.

Every canvas gives a picture of values in [0, 1], from noise or from a picture, and says how fast it should learn. Why
it matters: Mordvintsev et al. 2018, "Differentiable Image Parameterizations", https://doi.org/10.23915/distill.00012.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.models.loading import load
from pipelines.models.text_to_image import LatentDecoder

# Square root of the covariance of colours in natural pictures, largest direction first: brightness, then blue against
# yellow, then green against red. Values of Mordvintsev et al. 2018, normalised so that the longest column has length 1.
COLOUR_ROOT = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLOURS = COLOUR_ROOT / COLOUR_ROOT.norm(dim=0).max()
EDGE = 1e-3  # how near to 0 and 1 a given picture may come, where a sigmoid has to be undone


class Canvas(nn.Module):
    """A picture of `side` pixels. `forward()` is (1, 3, side, side) in [0, 1]."""

    rate = 0.05  # learning rate of Adam

    def __init__(self, side: int, rng: torch.Generator, picture: Tensor | None = None):
        """
        Args:
            rng: draws the start.
            picture: (1, 3, side, side) in [0, 1] to begin from, in place of noise.
        """
        super().__init__()
        self.side = side


def _logit(picture: Tensor) -> Tensor:
    return torch.special.logit(picture.clamp(EDGE, 1 - EDGE))


class Pixels(Canvas):
    """Every pixel by itself: the parametrization in which noise is easiest."""

    rate = 0.05

    def __init__(self, side: int, rng: torch.Generator, picture: Tensor | None = None):
        super().__init__(side, rng, picture)
        start = 0.01 * torch.randn(1, 3, side, side, generator=rng) if picture is None else _logit(picture)
        self.values = nn.Parameter(start)

    def forward(self) -> Tensor:
        return self.values.sigmoid()


class Fourier(Canvas):
    """Waves, coarse ones first, in decorrelated colours; ibid., section "Preconditioning"."""

    rate = 0.05
    decay = 1.0  # a wave of frequency f is scaled by 1 / f^decay, as in natural pictures
    contrast = 4.0
    scale: Tensor
    colours: Tensor

    def __init__(self, side: int, rng: torch.Generator, picture: Tensor | None = None):
        super().__init__(side, rng, picture)
        rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
        frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / side)
        self.register_buffer("scale", frequency.pow(-self.decay) / self.contrast, persistent=False)
        self.register_buffer("colours", COLOURS, persistent=False)
        if picture is None:
            waves = 0.01 * torch.randn(1, 3, *self.scale.shape, 2, generator=rng)
        else:
            mixed = torch.einsum("cd,bdhw->bchw", torch.linalg.inv(COLOURS), _logit(picture))
            waves = torch.view_as_real(torch.fft.rfft2(mixed, norm="ortho") / self.scale)
        self.waves = nn.Parameter(waves)

    def forward(self) -> Tensor:
        spectrum = torch.view_as_complex(self.waves) * self.scale
        plain = torch.fft.irfft2(spectrum, s=(self.side, self.side), norm="ortho")
        return torch.einsum("cd,bdhw->bchw", self.colours, plain).sigmoid()


class Pyramid(Canvas):
    """A sum of pictures from 1 pixel to all of them; Fort and Whitaker 2025, https://arxiv.org/abs/2502.07753."""

    rate = 0.05

    def __init__(self, side: int, rng: torch.Generator, picture: Tensor | None = None):
        super().__init__(side, rng, picture)
        sides = [side >> level for level in range(int(math.log2(side)) + 1)][::-1]
        start = [0.01 * torch.randn(1, 3, s, s, generator=rng) for s in sides]
        if picture is not None:
            rest = _logit(picture)
            for level, s in enumerate(sides):
                start[level] = F.adaptive_avg_pool2d(rest, s)
                rest = rest - self._enlarged(start[level])
        self.levels = nn.ParameterList(nn.Parameter(level) for level in start)

    def _enlarged(self, level: Tensor) -> Tensor:
        return F.interpolate(level, (self.side, self.side), mode="bilinear", align_corners=False)

    def forward(self) -> Tensor:
        return sum((self._enlarged(level) for level in self.levels), torch.zeros(())).sigmoid()


class Latent(Canvas):
    """The latents of a diffusion model's autoencoder, which can hardly draw what no picture of its world has."""

    rate = 0.1

    def __init__(
        self,
        side: int,
        rng: torch.Generator,
        picture: Tensor | None = None,
        autoencoder: str = "storybook-autoencoder",
    ):
        """
        Args:
            autoencoder: a model of the registry's family of that name.
        """
        super().__init__(side, rng, picture)
        vae = load(autoencoder, LatentDecoder).module
        self.decode: Callable[[Tensor], Tensor] = lambda z: vae.decode(z).sample  # not a submodule: it does not learn
        if picture is None:
            start = 0.5 * torch.randn(1, vae.config.latent_channels, side // 8, side // 8, generator=rng)
        else:
            with torch.no_grad():
                start = vae.encode(picture * 2 - 1).latents
        self.latents = nn.Parameter(start.clone())

    def forward(self) -> Tensor:
        return ((self.decode(self.latents) + 1) / 2).clamp(0, 1)


CANVASES = {"pixels": Pixels, "fourier": Fourier, "pyramid": Pyramid, "latent": Latent}
