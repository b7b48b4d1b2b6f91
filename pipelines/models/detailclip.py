"""DetailCLIP (Monsefi et al. 2024, https://arxiv.org/abs/2409.06809): the model and its losses, in the paper's order.

A student CLIP sees half of the patches, chosen by the attention of its own slow copy, the teacher, which sees all. It
has to agree with the caption (L_CLIP), with the teacher about the other view (L_CLS), with the teacher about every
removed patch (L_Patch), and to reconstruct the removed patches (L_Rec). The towers are OpenCLIP's, so the student opens
with plain OpenCLIP.

Written from the method's description. Where this differs from it, the line says so.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from pipelines.errors import UserError
from pipelines.models.decoder import Decoded, PixelDecoder, blur_some, patchify, pixel_target
from pipelines.models.interpolation import harmonic_fill
from pipelines.models.vision import Tokens, gather_tokens, openclip_tokens


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the method leaves to the user. Defaults are the paper's, but for a smaller head."""

    keep_ratio: float = 0.5  # share of the 2x2-patch blocks that stay, plus one block
    prototypes: int = 512  # K; 8192 in the paper
    head_hidden: int = 512  # 2048 in the paper
    head_bottleneck: int = 128  # 256 in the paper
    decoder_layers: int = 1
    decoder_heads: int = 16
    student_temperature: float = 0.1
    teacher_temperature_cls: float = 0.04
    teacher_temperature_patch: float = 0.07
    center_momentum: float = 0.9
    weight_cls: float = 1.0  # a1
    weight_patch: float = 1.0  # a2
    weight_rec: float = 1.0  # a3
    weight_spread: float = 0.0  # not in the paper: see `spread`
    normalise_pixels: bool = False  # True: the paper's default target, each patch standardised by itself
    decode_on_fill: bool = False  # not in the paper: see `LocalContext`
    refinement: Sequence[int] | None = None  # not in the paper: channels of `RefinementUNet`; None for none


# ----------------------------------------------------------------------------------------------- patches and removal


def tokens_kept(grid: int, keep_ratio: float) -> int:
    """How many of grid*grid patches stay: floor(blocks * keep_ratio) + 1 blocks of 2x2, never more than there are.

    On 14x14 patches: 20, 52, 100, 148 and 180 of 196 at 0.10, 0.25, 0.50, 0.75 and 0.90.

    Raises:
        UserError: for an odd grid, which has no 2x2 blocks, or a ratio outside [0, 1].
    """
    if grid % 2:
        raise UserError(
            "The 2x2-block rule needs an even number of patches along a side; this model has {grid}.", grid=grid
        )
    if not 0 <= keep_ratio <= 1:
        raise UserError("The keep ratio is a share between 0 and 1, not {ratio}.", ratio=keep_ratio)
    blocks = (grid // 2) ** 2
    return 4 * min(blocks, math.floor(blocks * keep_ratio) + 1)


def keep_highest(score: Tensor, keep_ratio: float, blocks: bool = True) -> Tensor:
    """Indices of the patches that stay, ascending: (B, N) scores -> (B, M).

    With `blocks` (DetailCLIP's rule, as in A-CLIP) whole 2x2 blocks stay, by their mean score; without, single patches.
    Both keep the same number.
    """
    batch, count = score.shape
    grid = math.isqrt(count)
    kept = tokens_kept(grid, keep_ratio)
    if not blocks:
        return score.topk(kept, dim=1).indices.sort(dim=1).values
    means = F.avg_pool2d(score.view(batch, 1, grid, grid), 2).flatten(1)  # (B, N/4)
    best = means.topk(kept // 4, dim=1).indices  # (B, M/4)
    row, column = best // (grid // 2) * 2, best % (grid // 2) * 2
    corners = [(row + dy) * grid + column + dx for dy in (0, 1) for dx in (0, 1)]
    return torch.cat(corners, dim=1).sort(dim=1).values


def complement(kept: Tensor, count: int) -> Tensor:
    """Indices of the patches that were removed, ascending: (B, M) -> (B, count - M)."""
    removed = torch.ones(len(kept), count, dtype=torch.bool, device=kept.device).scatter(1, kept, False)
    return removed.nonzero()[:, 1].view(len(kept), count - kept.shape[1])


def mean_attention(tokens: Tokens) -> Tensor:
    """(B, N) the score of each patch: the class token's attention, averaged over all layers and heads."""
    assert tokens.attention is not None, "encoded without attention"
    return tokens.attention.float().mean(dim=(1, 2))


# -------------------------------------------------------------------------------------------------- heads and decoder


class ProjectionHead(nn.Module):
    """Tokens -> prototype logits, the head of DINO and iBOT; one head serves the class token and the patches.

    The last layer has unit-length weights (weight norm with its gain fixed at 1), so a logit is a cosine.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02) if parameter.ndim > 1 else nn.init.zeros_(parameter)

    def features(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., bottleneck) float32 of unit length."""
        return F.normalize(self.mlp(tokens).float(), dim=-1)

    def directions(self) -> Tensor:
        """(K, bottleneck) float32 of unit length, one row per prototype."""
        return F.normalize(self.prototypes.float(), dim=-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., K) float32 in [-1, 1]."""
        return F.linear(self.features(tokens), self.directions()).float()


# ------------------------------------------------------------------------------------------------------------- losses


def cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """H(p, softmax(logits)) = -sum_k p_k log q_k over the last axis, in nats."""
    return -(target * F.log_softmax(logits, dim=-1)).sum(-1)


def entropy(probabilities: Tensor) -> Tensor:
    """-sum_k p_k log p_k over the last axis, in nats: 0 when one prototype takes all, ln K when all are equal."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)


def spread(logits: Tensor) -> Tensor:
    """ln K minus the entropy of the batch's mean distribution: 0 when all prototypes are used alike, ln K when one is.

    Differs from the paper, whose fifteen million photographs need no such help. Centring alone keeps only as many
    prototypes in use as the easiest cue has values; in a world with five backgrounds that was eight. The term is the
    mean-entropy regulariser of Masked Siamese Networks (Assran et al. 2022, https://arxiv.org/abs/2204.07141),
    taken of the student's logits centred and sharpened like the teacher's: soft distributions alone would satisfy it.
    """
    mean = logits.softmax(-1).flatten(0, -2).mean(0)
    return math.log(len(mean)) - entropy(mean)


def teacher_distribution(logits: Tensor, center: Tensor | float, temperature: float) -> Tensor:
    """softmax((z - c) / tau): centred, then sharpened."""
    return ((logits - center) / temperature).softmax(-1)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The four losses and the signs of collapse: a run has collapsed when the loss is ln K and flat, or 0."""

    total: Tensor
    clip: Tensor
    cls: Tensor
    patch: Tensor
    rec: Tensor
    spread: Tensor
    entropy_cls: Tensor  # nats, mean entropy of the teacher's class-token distributions
    entropy_patch: Tensor  # the same for its patch distributions
    entropy_mean_cls: Tensor  # entropy of the batch's mean distribution: ln K when the prototypes share the work
    entropy_mean_patch: Tensor
    prototypes_used: Tensor  # how many prototypes are some patch's first choice in this batch
    cls_std: Tensor  # deviation of the unit-length class features times sqrt(D): 1 is healthy, 0 collapsed


# -------------------------------------------------------------------------------------------------------------- model


def vit_size(visual: Any) -> tuple[int, int, int]:
    """(width, grid, patch) of an OpenCLIP image tower."""
    return visual.conv1.out_channels, visual.grid_size[0], visual.patch_size[0]


class DetailCLIP(nn.Module):
    """Student CLIP, projection head, pixel decoder, and the teacher: a slow copy of the image tower and the head."""

    clip: Any  # OpenCLIP's own module
    center_cls: Tensor
    center_patch: Tensor

    def __init__(self, clip: Any, settings: Settings = Settings()):  # noqa: B008 (frozen)
        super().__init__()
        self.settings = settings
        width, self.grid, self.patch = vit_size(clip.visual)
        self.clip = clip
        self.head = ProjectionHead(width, settings.head_hidden, settings.head_bottleneck, settings.prototypes)
        self.decoder = PixelDecoder(
            width,
            self.grid,
            self.patch,
            settings.decoder_layers,
            settings.decoder_heads,
            settings.decode_on_fill,
            settings.refinement,
        )
        self.teacher: Any = copy.deepcopy(clip.visual).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("center_cls", torch.zeros(settings.prototypes))
        self.register_buffer("center_patch", torch.zeros(settings.prototypes))

    # 1. The teacher follows the student.

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """theta <- m theta + (1 - m) phi, before every forward pass."""
        for slow, fast in ((self.teacher, self.clip.visual), (self.teacher_head, self.head)):
            torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - momentum)

    # 2. The student encodes what is kept and decodes what is gone.

    def student(
        self,
        pixels: Tensor,
        kept: Tensor | None,
        dtype: torch.dtype | None = None,
        refined: bool = True,
        canvas: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tokens, Decoded]:
        """(B, 3, H, W), (B, M) -> encoder tokens of the kept patches, and what the decoder makes of all patches.

        `canvas` is what `canvas` makes of the two; whoever asks at many keep ratios fills them all at once.
        """
        tokens = openclip_tokens(self.clip.visual, pixels, kept, attention=False, dtype=dtype)
        if canvas is None and self.settings.decode_on_fill:
            canvas = self.canvas(pixels, kept)
        return tokens, self.decoder(tokens, kept, *(canvas or ()), refined=refined)

    def canvas(self, pixels: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) of which only the patches `kept` were seen -> the harmonic fill, and 1 where it was seen."""
        if kept is None:
            return pixels, torch.ones_like(pixels[:, :1])
        return self.filled(pixels, torch.zeros(len(kept), self.grid**2, device=pixels.device).scatter(1, kept, 1.0))

    def filled(self, pixels: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """The same for patches that are told by a mask: (B, 3, H, W) and (B, N), 1 where seen."""
        seen = F.interpolate(seen.view(-1, 1, self.grid, self.grid), scale_factor=self.patch, mode="nearest")
        return harmonic_fill(pixels, seen), seen

    def decode_without_tokens(self, pixels: Tensor, kept: Tensor | None, refined: bool = True) -> Decoded:
        """What a decoder with `decode_on_fill` predicts without any token: outlines go on, meaning is not known."""
        context = self.decoder.local_context
        assert context is not None, "only a decoder with `decode_on_fill` predicts without tokens"
        canvas, seen = self.canvas(pixels, kept)
        fill, near = patchify(canvas, self.patch), context(canvas, seen)
        predicted = fill + context.to_pixels(near).float()
        if self.decoder.refinement is not None and refined:
            predicted = self.decoder.refinement(predicted, canvas, seen, None)
        return Decoded(tokens=near, predicted=predicted, fill=fill)

    # 3. The losses of one step.

    def forward(
        self,
        views: Tensor,
        text: Tensor,
        keep_ratio: float | None = None,
        random_share: float = 0.0,
        blur_share: float = 0.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> Losses:
        """Compare two views of each picture.

        Args:
            views: (2, B, 3, H, W) augmented twice, normalised.
            text: (B, T) token ids of the captions.
            keep_ratio: overrides the setting; 1 removes nothing, and the losses on patches are then taken over all of
                them.
            random_share: probability that a picture's patches are chosen at random, single ones or blocks, and not by
                attention. Differs from the paper (0): an untrained teacher's attention is noise that a run can lock
                into, and a decoder that always keeps the salient patches never learns to reconstruct them.
            blur_share: probability that the student sees a picture at a half or a quarter of its resolution. The blur
                is one of the paper's augmentations; differs from it: the target stays sharp, on the patches kept as
                well, so the decoder learns to bring detail back.
            generator: source of these choices.
            dtype: of the residual stream.
        """
        s = self.settings
        batch, count = views.shape[1], self.grid**2
        keep_ratio = s.keep_ratio if keep_ratio is None else keep_ratio
        pixels = views.flatten(0, 1)  # (2B, 3, H, W): u first, then v

        with torch.no_grad():  # the teacher sees everything
            seen = openclip_tokens(self.teacher, pixels, dtype=dtype)
            kept = None
            if keep_ratio < 1:
                kept = self.choose(mean_attention(seen), keep_ratio, random_share, generator)
                lost = complement(kept, count)
            else:
                lost = torch.arange(count, device=pixels.device).expand(2 * batch, -1)
            teacher_cls, teacher_patch = self.teacher_head(seen.cls), self.teacher_head(seen.patches)
            target_cls = teacher_distribution(teacher_cls, self.center_cls, s.teacher_temperature_cls)
            target_patch = teacher_distribution(teacher_patch, self.center_patch, s.teacher_temperature_patch)
            target_lost = gather_tokens(target_patch, lost)

        seen_by_student, blurred = blur_some(pixels, blur_share, generator)
        tokens, decoded = self.student(seen_by_student, kept, dtype=dtype)
        decoded_lost = gather_tokens(decoded.tokens, lost)  # only removed patches are learnt from

        features = F.normalize((tokens.cls @ self.clip.visual.proj.to(tokens.cls.dtype)).float(), dim=-1)  # (2B, E)
        words = self.clip.encode_text(text, normalize=True).float()  # (B, E)
        loss_clip = self.contrast(features[:batch], features[batch:], words)
        zero = loss_clip.new_zeros(())
        loss_cls = loss_patch = loss_rec = loss_spread = zero
        if s.weight_cls or s.weight_patch:
            cls, patch = self.head(tokens.cls), self.head(decoded_lost)
            crossed = cls.roll(batch, dims=0)  # u against v, and v against u
            loss_cls = cross_entropy(target_cls, crossed / s.student_temperature).mean()
            loss_patch = cross_entropy(target_lost, patch / s.student_temperature).mean()
            loss_spread = spread((cls - self.center_cls) / s.teacher_temperature_cls)
            loss_spread = (loss_spread + spread((patch - self.center_patch) / s.teacher_temperature_patch)) / 2
        if s.weight_rec:
            loss_rec = self.reconstruction_loss(pixels, decoded, lost, blurred)
        total = loss_clip + s.weight_cls * loss_cls + s.weight_patch * loss_patch + s.weight_rec * loss_rec
        total = total + s.weight_spread * loss_spread

        with torch.no_grad():
            if self.training:
                self.update_centers(teacher_cls, teacher_patch)
            return Losses(
                total=total,
                clip=loss_clip,
                cls=loss_cls,
                patch=loss_patch,
                rec=loss_rec,
                spread=loss_spread,
                entropy_cls=entropy(target_cls).mean(),
                entropy_patch=entropy(target_lost).mean(),
                entropy_mean_cls=entropy(target_cls.mean(0)),
                entropy_mean_patch=entropy(target_patch.mean((0, 1))),
                prototypes_used=target_patch.argmax(-1).unique().numel() * torch.ones_like(zero),
                cls_std=features.std(0).mean() * math.sqrt(features.shape[-1]),
            )

    def reconstruction_loss(self, pixels: Tensor, decoded: Decoded, lost: Tensor, blurred: Tensor) -> Tensor:
        """L_Rec, the mean squared error of the predicted patches: of the `lost` ones (B, L), of blurred pictures all.

        With `decode_on_fill` as a share of the error that the fill alone leaves in the same picture, mean over the
        pictures: 1 is no better than interpolation, 0.5 is 3 dB better, and flat pictures count like rich ones.
        """
        left = self.reconstruction_error(decoded.predicted, pixels, lost, blurred)
        if self.settings.decode_on_fill:
            # 0.03 is 27 dB: what the fill of a nearly flat picture leaves
            left = left / (self.reconstruction_error(decoded.fill, pixels, lost, blurred) + 0.03)
        return left.mean()

    def reconstruction_error(self, predicted: Tensor, pixels: Tensor, lost: Tensor, blurred: Tensor) -> Tensor:
        """(B) mean squared error of the `lost` patches (B, L) among the predicted ones (B, N, p*p*3), of the pictures
        that are `blurred` (B) of all."""
        counts = torch.zeros(len(pixels), self.grid**2, device=pixels.device).scatter(1, lost, 1.0)
        counts = torch.maximum(counts, blurred[:, None].float())
        target = pixel_target(pixels, self.patch, self.settings.normalise_pixels)
        return ((predicted - target).square().mean(-1) * counts).sum(1) / counts.sum(1)

    def choose(
        self, score: Tensor, keep_ratio: float, random_share: float, generator: torch.Generator | None
    ) -> Tensor:
        """(B, N) attention -> (B, M) kept patches: DetailCLIP's rule, for a random share of pictures a random one."""
        kept = keep_highest(score, keep_ratio)
        if not random_share:
            return kept
        noise = torch.rand(score.shape, generator=generator).to(score.device)
        draw = torch.rand((len(score), 1), generator=generator).to(score.device)
        kept = torch.where(draw < random_share, keep_highest(noise, keep_ratio), kept)
        return torch.where(draw < random_share * 2 / 3, keep_highest(noise, keep_ratio, blocks=False), kept)

    def contrast(self, u: Tensor, v: Tensor, words: Tensor) -> Tensor:
        """L_CLIP of both views, over the pictures of all processes."""
        parallel = dist.is_available() and dist.is_initialized()
        rank, world = (dist.get_rank(), dist.get_world_size()) if parallel else (0, 1)
        loss = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=world)
        scale = self.clip.logit_scale.exp()
        return (loss(u, words, scale) + loss(v, words, scale)) / 2

    def update_centers(self, cls_logits: Tensor, patch_logits: Tensor) -> None:
        """c <- m c + (1 - m) mean of the raw teacher logits, of both views and all processes."""
        for center, mean in ((self.center_cls, cls_logits.mean(0)), (self.center_patch, patch_logits.mean((0, 1)))):
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(mean)
                mean /= dist.get_world_size()
            center.lerp_(mean, 1 - self.settings.center_momentum)

    def clamp_scale(self) -> None:
        """Keep CLIP's logit scale within [1, 100], after every step."""
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, math.log(100))
