"""Attend-and-Excite (Chefer et al. 2023, https://arxiv.org/abs/2301.13826): while a picture is drawn, update the
latents until every subject of the prompt has a patch that attends to it.

`capture_cross_attention` keeps a UNet's cross-attention maps at 16x16, and restores its processors whatever happens.
`excite` is algorithm 1 of the paper for one step. A pass that only wants attention ends at the last layer that has any
of that size, and its gradient begins there.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from pipelines.diffusion.settings import UPDATE_SIZE
from pipelines.errors import UserError, require_finite

CELLS = 256  # 16x16, the size at which attention carries the most meaning (Hertz et al. 2022, section 3)
THRESHOLDS = {
    0.0: 0.05,
    0.2: 0.5,
    0.4: 0.8,
}  # share of the steps -> peak every subject must reach; steps 0, 10, 20 of 50
UPDATED = 0.5  # share of the steps that update the latent; the first 25 of 50
ADVICE = "Choose smaller nudges, or another number of steps."  # where numbers are no numbers any more
SMOOTHING = 0.5**0.5  # the authors' kernel of "deviation 0.5" is exp(-(x / (2 * 0.5))^2)
MOST_TRIES = 20  # updates at one threshold
SHARPNESS = 100.0  # of the competition between words; made for Stable Diffusion, where the start token takes nearly all


# ---------------------------------------------------------------------------------------------------------- listening


class _Captured(Exception):
    """Everything that was wanted of this pass has been seen."""


@dataclass(kw_only=True)
class Attention:
    """What was captured in the last pass."""

    size: tuple[int, int]  # rows, columns of a map
    layers: int  # how many have that size
    unet: Any = None
    names: tuple[str, ...] = ()  # of its processors that are captured
    maps: list[Tensor] = field(default_factory=list)  # of each layer (B, rows*columns, T), mean over the heads
    stop: bool = False  # leave a pass after the last of these layers

    def mean(self) -> Tensor:
        """(B, rows, columns, T) probabilities over the T tokens, mean over layers and heads."""
        return torch.stack(self.maps).mean(0).unflatten(1, self.size)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Captures until the block is left. No run yields within it: between two of its steps others use the UNet."""
        before = dict(self.unet.attn_processors)
        try:
            self.unet.set_attn_processor(before | dict.fromkeys(self.names, _CapturingProcessor(self)))
            yield
        finally:
            self.unet.set_attn_processor(before)

    def capture(self, probabilities: Tensor) -> None:
        """(B, heads, rows*columns, T) of one layer."""
        self.maps.append(probabilities.mean(1))
        if self.stop and len(self.maps) == self.layers:
            raise _Captured


class _CapturingProcessor:
    """diffusers' attention with its probabilities told; same result as the processor it stands in for."""

    def __init__(self, attention: Attention):
        self.attention = attention

    def __call__(self, attn, hidden_states: Tensor, encoder_hidden_states: Tensor, *_, **__) -> Tensor:
        def heads(states: Tensor) -> Tensor:
            return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        query = heads(attn.to_q(hidden_states))
        key, value = heads(attn.to_k(encoder_hidden_states)), heads(attn.to_v(encoder_hidden_states))
        probabilities = torch.softmax((query @ key.transpose(-1, -2)).float() * attn.scale, dim=-1)
        self.attention.capture(probabilities)
        mixed = (probabilities.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](mixed)) / attn.rescale_output_factor


def cross_attention(unet: Any, size: tuple[int, int]) -> dict[tuple[int, int], list[str]]:
    """Names of the cross-attention processors by the rows and columns of their maps, in the order of a pass.

    Args:
        size: rows and columns of the latents.
    """
    named = {id(module): f"{name}.processor" for name, module in unet.named_modules()}
    found: dict[tuple[int, int], list[str]] = {}
    rows, columns = size
    blocks = [*unet.down_blocks, *([unet.mid_block] if unet.mid_block is not None else []), *unet.up_blocks]
    for block in blocks:
        for transformer in getattr(block, "attentions", []):
            for layer in transformer.transformer_blocks:
                found.setdefault((rows, columns), []).append(named[id(layer.attn2)])
        if getattr(block, "downsamplers", None):
            rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
        if getattr(block, "upsamplers", None):
            rows, columns = rows * 2, columns * 2
    return found


def attention_of(unet: Any, size: tuple[int, int]) -> Attention:
    """What captures the cross-attention of every layer whose maps are nearest to 16x16, where it is installed.

    Args:
        size: rows and columns of the latents.

    Raises:
        UserError: for a UNet without cross-attention.
    """
    layers = cross_attention(unet, size)
    if not layers:
        raise UserError("This model has no cross-attention to look at.")
    cells = min(layers, key=lambda shape: abs(math.log(shape[0] * shape[1] / CELLS)))
    return Attention(size=cells, layers=len(layers[cells]), unet=unet, names=tuple(layers[cells]))


@contextmanager
def capture_cross_attention(unet: Any, size: tuple[int, int]) -> Iterator[Attention]:
    """`attention_of`, installed until the block is left."""
    attention = attention_of(unet, size)
    with attention.installed():
        yield attention


def truncated_pass(attention: Attention, forward: Callable[[], object]) -> Tensor:
    """(B, rows, columns, T) of a pass that ends after the last layer that is captured."""
    attention.maps.clear()
    attention.stop = True
    try:
        forward()
    except _Captured:
        pass
    finally:
        attention.stop = False
    return attention.mean()


# -------------------------------------------------------------------------------------------------- loss and updates


def peaks(maps: Tensor, subjects: Sequence[Sequence[int]], sharpness: float = SHARPNESS) -> Tensor:
    """(S) how much the patch that cares most for each subject cares; section 3.2.

    The start token, which can take most of the attention, is left out, and the others compete anew: softmax of
    `sharpness` times the probabilities, 100 in the authors' code. A subject that the tokenizer had to spell counts by
    the piece with most attention.

    Args:
        maps: (rows, columns, T) attention probabilities of one picture.
        subjects: token numbers of each subject, counted with the start token as 0.
    """
    words = torch.softmax(sharpness * maps[..., 1:-1], dim=-1).movedim(-1, 0)[:, None]  # (T-2, 1, rows, columns)
    smooth = gaussian_blur(words, [3, 3], [SMOOTHING, SMOOTHING])
    highest = smooth.flatten(1).amax(1)
    return torch.stack([highest[[token - 1 for token in tokens]].max() for tokens in subjects])


def loss_of(found: Tensor) -> Tensor:
    """Loss of the subject that is worst off: max over subjects of max(0, 1 - peak); equation 1."""
    return (1 - found).clamp(min=0).max()


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When, how far and how long, for a number of steps; the paper's 50 scale along."""

    steps: int
    scale: float = UPDATE_SIZE
    refine: bool = True
    sharpness: float = SHARPNESS

    def updates(self, step: int) -> bool:
        return step < round(UPDATED * self.steps)

    def threshold(self, step: int) -> float | None:
        """The peak that must be reached in this step before it goes on, if any."""
        at = {round(share * self.steps): peak for share, peak in THRESHOLDS.items()}
        return at.get(step) if self.refine else None

    def staircase(self) -> list[float]:
        """The threshold reached so far, for each step that updates."""
        stairs, now = [], 0.0
        for step in range(round(UPDATED * self.steps)):
            now = max(now, self.threshold(step) or 0.0)
            stairs.append(now)
        return stairs

    def size(self, step: int) -> float:
        """Length of an update: scale times the root of what falls from 1 to 0.5 over the run."""
        return self.scale * math.sqrt(1 - 0.5 * step / max(1, self.steps - 1))


@dataclass(frozen=True, kw_only=True)
class Excited:
    """What one step did."""

    peaks: tuple[float, ...]  # of each subject before the last update
    tries: int  # refinements
    moved: float  # length of the latent's change as a share of the latent's length


def excite(
    latents: Tensor,
    maps_of: Callable[[Tensor], Tensor],
    subjects: Sequence[Sequence[int]],
    schedule: Schedule,
    step: int,
    stopped: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Excited]:
    """Move the latents of one picture until the subjects are attended to; algorithm 1.

    The updates are those of the authors' code, with fewer passes: no layer runs after the last whose attention is
    captured, and no pass is made twice for the same latents.

    Args:
        latents: (1, C, H, W).
        maps_of: latents -> (1, rows, columns, T), differentiable.
        stopped: called before every pass; raises to leave.

    Raises:
        NotFinite: when attention or a nudge holds NaN or infinity.
    """
    size, threshold = schedule.size(step), schedule.threshold(step)
    begin = latents

    def look(at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stopped()
        with torch.enable_grad():
            at = at.detach().requires_grad_(True)
            found = peaks(maps_of(at)[0], subjects, schedule.sharpness)
            require_finite(f"how much is attended to in step {step + 1}", ADVICE, found)
            return at, found, loss_of(found)

    def update(at: Tensor, loss: Tensor) -> Tensor:
        if loss == 0:
            return at.detach()
        (gradient,) = torch.autograd.grad(loss, at)
        moved = at.detach() - size * gradient
        require_finite(f"a nudge of step {step + 1}", ADVICE, moved)
        return moved

    latents, found, loss = look(latents)
    tries, enough = 0, 1 - (threshold or 0.0)
    if threshold is not None and loss > enough:
        done = False
        while not done:
            tries += 1
            done = tries == MOST_TRIES or bool(loss <= enough)
            latents, found, loss = look(update(latents, loss))
    latents = update(latents, loss) if schedule.updates(step) else latents.detach()
    moved = (latents - begin).norm() / begin.norm()
    return latents, Excited(peaks=tuple(found.detach().tolist()), tries=tries, moved=float(moved))
