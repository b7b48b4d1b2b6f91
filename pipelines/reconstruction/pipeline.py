"""Pixels from the patches that are left: DetailCLIP's decoder, or a masked autoencoder (He et al. 2022,
https://arxiv.org/abs/2111.06377).

`encode` prepares a picture; `reconstruct` removes patches by a pattern, lets the decoder predict them, and measures the
prediction where nothing was visible, beside two baselines that know nothing about pictures: one mean colour, and
interpolation from the neighbours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from skimage.metrics import structural_similarity

from pipelines.errors import OTHER_MODEL, UserError, require_finite
from pipelines.models.decoder import lower_resolution, patchify, unpatchify
from pipelines.models.detailclip import complement, keep_highest, mean_attention, tokens_kept
from pipelines.models.encoders import Model
from pipelines.models.interpolation import fill_from_neighbours
from pipelines.models.loading import load
from pipelines.models.vision import centre_square
from pipelines.reconstruction.settings import MOST_HIDDEN, PATTERNS, Pattern, Settings


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A picture as the model sees it, and where its attention lies."""

    model: str
    pixels: torch.Tensor  # (1, 3, S, S) on the CPU, normalised
    picture: np.ndarray  # (S, S, 3) float32 in [0, 1]
    attention: np.ndarray  # (g, g) float32


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How near a reconstruction is to the truth, over the patches nobody could see."""

    mse: float  # of pixels in [0, 1]
    psnr: float  # dB
    ssim: float
    edge_mse: float  # weighted by the truth's gradient: what the error is on fur, leaves and outlines


@dataclass(frozen=True, kw_only=True)
class Result:
    """One reconstruction. Pictures are (S, S, 3) float32 in [0, 1], grids (g, g)."""

    given: np.ndarray  # the picture at the resolution the model got
    visible: np.ndarray  # (g, g) bool, patches the model saw
    predicted: np.ndarray  # the decoder's own output everywhere
    pasted: np.ndarray  # prediction where patches were removed, the given picture elsewhere
    error: np.ndarray  # (g, g) mean squared error of each removed patch; NaN where visible
    scores: Scores  # of the model
    mean_colour: Scores  # of the mean colour of the visible patches in every removed one
    neighbours: Scores | None  # of interpolating from the nearest visible pixels; None when nothing is hidden
    interpolated: np.ndarray  # the picture that `neighbours` scores
    sharpened: Scores | None  # low resolution only: the prediction over the whole picture
    bicubic: Scores | None  # low resolution only: the input, enlarged, over the whole picture


def encode(picture: Image.Image, model: str) -> Encoded:
    """Prepare the middle square of the picture and ask for the attention that the pattern `attention` needs."""
    loaded = load(model)
    _check_decoder(loaded)
    pixels = loaded.pixels(centre_square(picture))
    tokens = loaded.chooser.encode(pixels)
    grid = loaded.encoder.grid
    attention = mean_attention(tokens).view(grid, grid).cpu().numpy()
    return Encoded(model=model, pixels=pixels.cpu(), picture=loaded.picture(pixels[0]), attention=attention)


def _check_decoder(loaded: Model) -> None:
    if loaded.detail is None and not hasattr(loaded.module, "decoder"):
        raise UserError(
            "{model} has no pixel decoder. Choose storybook-detailclip or mae-base.", model=loaded.spec.name
        )


# --------------------------------------------------------------------------------------------------------- what to hide


def visible_patches(
    encoded: Encoded, mask_ratio: float, pattern: Pattern, seed: int = 42, painted: np.ndarray | None = None
) -> np.ndarray:
    """(g, g) bool, the patches the model may see.

    Args:
        mask_ratio: share of the patches to hide, in [0, 0.98]. `attention` and `block` hide by 2x2 blocks and leave
            one block more than the ratio says, as DetailCLIP does.
        pattern: `attention` keeps what the class token looks at; `random` hides single patches; `block` hides one
            square in the middle; `grid` keeps every k-th patch, evenly spread; `painted` hides what was painted.
        painted: (g, g) bool, for the pattern `painted`, whatever the ratio.

    Raises:
        UserError: for an unknown pattern, a ratio out of range, or nothing painted.
    """
    grid = len(encoded.attention)
    if not 0 <= mask_ratio <= MOST_HIDDEN:
        raise UserError(
            "The mask ratio is a share from 0 to {most} of the patches, not {ratio}.",
            most=MOST_HIDDEN,
            ratio=mask_ratio,
        )
    if pattern == "attention":
        score = torch.from_numpy(encoded.attention).reshape(1, -1)
        return _to_grid(keep_highest(score, 1 - mask_ratio)[0], grid)
    left = max(1, round(grid * grid * (1 - mask_ratio)))
    if pattern == "random":
        order = torch.randperm(grid * grid, generator=torch.Generator().manual_seed(seed))
        return _to_grid(order[:left], grid)
    if pattern == "block":
        hidden = np.zeros((grid, grid), bool)
        side = min(grid - 1, round((grid * grid - tokens_kept(grid, 1 - mask_ratio)) ** 0.5))
        start = (grid - side) // 2
        hidden[start : start + side, start : start + side] = True
        return ~hidden
    if pattern == "grid":
        return evenly_spread(grid, left)
    if pattern == "painted":
        if painted is None or not painted.any():
            raise UserError("Nothing is painted yet. Paint over what the model shall not see, then apply.")
        if painted.all():
            raise UserError("Everything is painted over. Leave at least one patch visible.")
        return ~painted
    raise UserError(
        "The pattern must be one of {allowed}, not {value}.", allowed=", ".join(PATTERNS), value=repr(pattern)
    )


def _to_grid(index: torch.Tensor, grid: int) -> np.ndarray:
    return torch.zeros(grid * grid, dtype=torch.bool).scatter(0, index, True).view(grid, grid).numpy()


def evenly_spread(grid: int, count: int) -> np.ndarray:
    """(g, g) bool with `count` True, spread by ordered dithering; half of all makes a chessboard."""
    size = 1 << (grid - 1).bit_length()
    rank = np.zeros((1, 1))
    while len(rank) < size:  # Bayer's recursion
        rank = np.block([[4 * rank, 4 * rank + 2], [4 * rank + 3, 4 * rank + 1]])
    flat = rank[:grid, :grid].ravel().argsort(kind="stable")
    chosen = np.zeros(grid * grid, bool)
    chosen[flat[:count]] = True
    return chosen.reshape(grid, grid)


# ------------------------------------------------------------------------------------------------------- reconstruction


@torch.no_grad()
def predict(loaded: Model, pixels: torch.Tensor, visible: np.ndarray) -> torch.Tensor:
    """(1, 3, S, S) and the visible patches (g, g) -> predicted patches (1, N, p*p*3), normalised like the pixels."""
    kept = torch.from_numpy(np.flatnonzero(visible))[None].to(loaded.device)
    pixels = pixels.to(loaded.device)
    if loaded.detail is not None:
        return loaded.detail.student(pixels, None if visible.all() else kept)[1].predicted
    tokens = loaded.encoder.encode(pixels, kept)
    order = torch.cat([kept, complement(kept, visible.size)], dim=1) if kept.shape[1] < visible.size else kept
    latent = torch.cat([tokens.cls[:, None], tokens.patches], dim=1)
    return loaded.module.decoder(latent, order.argsort(dim=1)).logits


def reconstruct(encoded: Encoded, settings: Settings, painted: np.ndarray | None = None) -> Result:
    """Hide, predict and measure.

    The target `pixels` shows what the decoder predicts. `normalised` standardises each predicted patch and gives it the
    *true* mean and deviation, as many published figures do: it looks better because it was told. With low_resolution n
    the model gets the picture at 1/n of its detail (area average, bicubic back up).

    Args:
        painted: (g, g) bool, for the pattern `painted`.

    Raises:
        UserError: see `visible_patches`; for a model without a decoder.
    """
    loaded, factor = load(encoded.model), settings.low_resolution
    visible = visible_patches(encoded, settings.mask_ratio, settings.pattern, settings.seed, painted)
    grid, patch = len(visible), encoded.picture.shape[0] // len(visible)

    pixels = encoded.pixels if factor == 1 else lower_resolution(encoded.pixels, factor)
    patches = predict(loaded, pixels, visible).cpu()
    require_finite("the predicted patches", OTHER_MODEL, patches)
    if settings.target == "pixels" and loaded.detail is not None and loaded.detail.settings.normalise_pixels:
        raise UserError(
            "{model} was trained to predict standardised patches, which have no colour of their own. Choose the "
            "target that lends each patch its true mean and contrast.",
            model=encoded.model,
        )
    if settings.target == "normalised":
        patches = lend_truth(patches, patchify(encoded.pixels, patch))
    predicted = loaded.picture(unpatchify(patches, patch)[0])
    given = loaded.picture(pixels[0])
    seen = visible.repeat(patch, 0).repeat(patch, 1)
    pasted = np.where(seen[..., None], given, predicted)

    truth = encoded.picture
    nothing_hidden = bool(visible.all())  # then the whole picture is judged
    hidden = np.ones_like(seen) if nothing_hidden else ~seen
    interpolated = fill_from_neighbours(given, seen)
    mean = np.where(hidden[..., None], given[seen].mean(0), given)
    judged = predicted if nothing_hidden else pasted
    error = (judged - truth) ** 2
    error = error.mean(-1).reshape(grid, patch, grid, patch).mean((1, 3))
    everywhere = np.ones_like(seen)
    return Result(
        given=given,
        visible=visible,
        predicted=predicted,
        pasted=pasted,
        error=error if nothing_hidden else np.where(visible, np.nan, error),
        scores=measure(judged, truth, hidden),
        mean_colour=measure(mean, truth, hidden),
        neighbours=None if nothing_hidden else measure(interpolated, truth, hidden),
        interpolated=interpolated,
        sharpened=measure(predicted, truth, everywhere) if factor > 1 else None,
        bicubic=measure(given, truth, everywhere) if factor > 1 else None,
    )


def lend_truth(patches: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Standardise each patch (B, N, p*p*3) and give it the mean and deviation of the true one."""
    standard = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    return standard * (truth.var(-1, keepdim=True) + 1e-6).sqrt() + truth.mean(-1, keepdim=True)


# ----------------------------------------------------------------------------------------------------------- measuring


def edge_weights(picture: np.ndarray) -> np.ndarray:
    """(S, S) weights with mean 1: the gradient magnitude of the brightness, so that flat areas count next to
    nothing.
    """
    gray = picture.mean(-1)
    magnitude = np.hypot(ndimage.sobel(gray, 0), ndimage.sobel(gray, 1))
    return magnitude / max(float(magnitude.mean()), 1e-8)


def measure(predicted: np.ndarray, truth: np.ndarray, where: np.ndarray) -> Scores:
    """Scores over the pixels `where` (S, S) bool. SSIM as in Wang et al. 2004, 7x7 windows, averaged over them."""
    squared = ((predicted - truth) ** 2).mean(-1)
    mse = float(squared[where].mean())
    weights = edge_weights(truth)[where]
    edge = float((squared[where] * weights).sum() / max(weights.sum(), 1e-8))
    _, similarity = structural_similarity(truth, predicted, channel_axis=-1, data_range=1.0, full=True)
    psnr = float(-10 * np.log10(max(mse, 1e-10)))
    return Scores(mse=mse, psnr=psnr, ssim=float(similarity.mean(-1)[where].mean()), edge_mse=edge)
