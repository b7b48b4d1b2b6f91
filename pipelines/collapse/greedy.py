"""Greedy modules: every module is taught by its own loss, and no gradient crosses the wall between two of them.

Greedy InfoMax (Löwe et al. 2019, https://arxiv.org/abs/1905.11786, section 3) on crops cut into overlapping patches:
each module has to tell the patch k rows below among patches of other pictures, by the score exp(z' W_k c) of CPC (van
den Oord et al. 2018, https://arxiv.org/abs/1807.03748, equations 3 and 4). Beside it the same network end to end: the
last module's loss alone, its gradient through all modules. Pictures are grey: with colour, the background solves it.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines import crops, probes
from pipelines.collapse.data import Preparing, drawing
from pipelines.collapse.settings import Greedy
from pipelines.crops import LUMA, Views, views
from pipelines.errors import UserError
from pipelines.one_core import one_core, side_by_side
from pipelines.small_nets import initialised
from pipelines.world import storybook

SIZE, LARGER = 48, 56  # pixels of what is cut into patches, and of what that is cut from
PATCH, STRIDE, GRID = 16, 8, 5  # pixels, and patches a side
NEGATIVES = 64
AHEAD = (1, 2)  # rows below
WIDTHS = (32, 64, 128)  # of the three modules
TRAINING, BANK, QUERIES = storybook.TRAIN[:1024], storybook.VALIDATION[:800], storybook.TEST[:400]
EVERY = 25  # steps between two probes
PLAIN = Views(area=(0.6, 1.0), hue=0, saturation=0, brightness=0.3, contrast=0.3, grey=0)
CHANCE_LOSS = math.log(1 + NEGATIVES)


@dataclass(frozen=True, kw_only=True)
class Step:
    step: int
    steps: int
    losses: tuple[float, ...]  # of every module; those that are not taught are measured all the same
    taught: tuple[bool, ...]  # whose loss is followed
    accuracy: tuple[float, ...]  # share of patches that each module finds among 65
    gradients: np.ndarray | None  # (3, 3): length of the gradient of module m's loss by module n's weights; nan: None
    nouns: tuple[float, ...] | None  # ridge probe per module
    memory: int  # bytes of activations that have to be kept at the same time for the gradients
    probabilities: np.ndarray | None  # (65,) float32, of one choice of the last module; the patch itself first
    patches_shown: np.ndarray | None  # (2, P, P) uint8, the patch it predicts from and the patch it should find


@dataclass(frozen=True, kw_only=True)
class Baselines:
    chance: float
    pixels: float
    untrained: tuple[float, ...]  # per module
    loss: float = CHANCE_LOSS


@dataclass(frozen=True, kw_only=True)
class Frame:
    a: Step
    b: Step
    baselines: Baselines


class Module(nn.Module):
    """Convolutions on one patch, and the matrices that predict the patches below."""

    def __init__(self, inside: int, outside: int, first: bool):
        super().__init__()
        side, stride, padding = (4, 2, 1) if first else (3, 2, 1)
        self.convolution = nn.Conv2d(inside, outside, side, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.refine = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.refine_norm = nn.BatchNorm2d(outside)
        self.predict = nn.ModuleList(nn.Linear(outside, outside, bias=False) for _ in AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.convolution(x)))
        return F.relu(self.refine_norm(self.refine(x)))


class Modules(nn.Module):
    """Three modules: patches of 16 pixels to 8x8, 4x4 and 2x2 places."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, *WIDTHS)
        self.stack = nn.ModuleList(Module(widths[i], widths[i + 1], i == 0) for i in range(len(WIDTHS)))

    def forward(self, patches: Tensor, greedy: bool) -> list[Tensor]:
        """(B * GRID * GRID, c, h, w) of every module; behind a wall a module's input has no history."""
        found, x = [], patches
        for module in self.stack:
            x = module(x.detach() if greedy else x)
            found.append(x)
        return found

    def modules_in_order(self) -> list[Module]:
        return [module for module in self.stack if isinstance(module, Module)]


def greyed(pixels: Tensor) -> Tensor:
    """(B, 1, H, W) of (B, 3, H, W)."""
    return (pixels * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def patches_of(pixels: Tensor) -> Tensor:
    """(B * GRID * GRID, 1, PATCH, PATCH) of (B, 3, SIZE, SIZE): grey, row by row, -1 to 1."""
    cut = (2 * greyed(pixels) - 1).unfold(2, PATCH, STRIDE).unfold(3, PATCH, STRIDE)  # (B, 1, GRID, GRID, PATCH, PATCH)
    return cut.reshape(-1, 1, PATCH, PATCH)


def vectors(maps: Tensor) -> Tensor:
    """(B, GRID, GRID, c): the mean over a patch's places."""
    return maps.mean((2, 3)).view(-1, GRID, GRID, maps.shape[1])


def scores(z: Tensor, predict: nn.Module, ahead: int, others: Tensor) -> Tensor:
    """(N, 1 + NEGATIVES) logits of the patch `ahead` rows below, first, and of NEGATIVES others; their softmax is the
    share of exp(z' W c). The exponential is taken once.

    Args:
        z: (B, GRID, GRID, c).
        others: (N, NEGATIVES) indices into the B * GRID * GRID patches.
    """
    from_above, below = z[:, :-ahead].flatten(0, 2), z[:, ahead:].flatten(0, 2)
    prediction = predict(from_above)
    right = (prediction * below).sum(1, keepdim=True)
    wrong = (prediction @ z.flatten(0, 2).T).gather(1, others)  # with all, then picked: faster than the other way round
    return torch.cat([right, wrong], 1)


def sample_negatives(batch: int, ahead: int, rng: torch.Generator) -> Tensor:
    """(N, NEGATIVES) random patches of other pictures of the batch, for every predicted patch."""
    own = torch.arange(batch).repeat_interleave((GRID - ahead) * GRID)[:, None]
    shift = torch.randint(1, batch, (len(own), NEGATIVES), generator=rng)
    place = torch.randint(GRID * GRID, (len(own), NEGATIVES), generator=rng)
    return (own + shift) % batch * GRID * GRID + place


def info_nce(z: Tensor, module: Module, others: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of one module: the mean over AHEAD. ln 65 where it knows nothing."""
    found, right = [], []
    for predict, ahead, wrong in zip(module.predict, AHEAD, others, strict=True):
        logits = scores(z, predict, ahead, wrong)
        target = torch.zeros(len(logits), dtype=torch.long)
        found.append(F.cross_entropy(logits, target))
        right.append((logits.argmax(1) == 0).double().mean())
    return torch.stack(found).mean(), torch.stack(right).mean()


def kept_bytes(net: Modules, patches: Tensor, greedy: bool) -> int:
    """Of activations that are kept for gradients at the same time; behind walls, those of the largest module, as it is
    done before the next one begins."""
    kept: list[dict[int, int]] = []

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[-1][tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    state, x = {name: value.clone() for name, value in net.state_dict().items()}, patches
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for module in net.stack:
            kept.append({})
            x = module(x.detach() if greedy else x)
    net.load_state_dict(state)  # its running means
    sizes = [sum(each.values()) for each in kept]
    return max(sizes) if greedy else sum(sizes)


def gradient_table(net: Modules, losses: list[Tensor]) -> np.ndarray:
    """(3, 3) lengths of the gradient of module m's loss by module n's weights; nan where there is none at all."""
    table = np.full((len(losses), len(net.stack)), np.nan)
    for row, loss in enumerate(losses):
        for column, module in enumerate(net.modules_in_order()):
            weights = [module.convolution.weight, module.refine.weight]
            found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            if all(gradient is not None for gradient in found):
                table[row, column] = math.sqrt(sum(float(g.square().sum()) for g in found))
    return table


@torch.no_grad()
def probe(net: Modules) -> tuple[float, ...]:
    """Ridge probe by noun of every module: the mean over the crop's patches."""
    net.eval()
    sets = []
    for seeds in (BANK, QUERIES):
        maps = [net(patches_of(part), greedy=True) for part in crops.pool(seeds, SIZE).pixels.split(100)]
        sets.append([torch.cat([vectors(m[i]).mean((1, 2)) for m in maps]) for i in range(len(WIDTHS))])
    net.train()
    bank, queries = (torch.from_numpy(crops.pool(seeds, SIZE).nouns) for seeds in (BANK, QUERIES))
    return tuple(probes.ridge_accuracy(a, bank, b, queries) for a, b in zip(*sets, strict=True))


def network(seed: int) -> Modules:
    return initialised(Modules(), seed).to(memory_format=torch.channels_last).train()


@functools.lru_cache(maxsize=8)
def baselines(seed: int) -> Baselines:
    """`seed` is of the untrained network's weights."""
    bank, queries = crops.pool(BANK, SIZE), crops.pool(QUERIES, SIZE)
    grey = [F.avg_pool2d(greyed(pool.pixels), 3).flatten(1) for pool in (bank, queries)]
    pixels = probes.ridge_accuracy(
        grey[0], torch.from_numpy(bank.nouns), grey[1], torch.from_numpy(queries.nouns), 10.0
    )
    return Baselines(chance=bank.chance, pixels=pixels, untrained=probe(network(seed)))


def baselines_once(seed: int) -> Iterator[Baselines]:
    """The same as a run of one step, for `one_core`."""
    yield baselines(seed)


def train(settings: Greedy, greedy: bool) -> Iterator[Step]:
    """One network, module by module or end to end, from before its first step to its last."""
    net, pictures = network(settings.seed), crops.pool(TRAINING, LARGER).pixels
    optimizer = torch.optim.AdamW(net.parameters(), settings.learning_rate, weight_decay=1e-4)
    rng = torch.Generator().manual_seed(settings.seed)
    last_module = len(WIDTHS) - 1
    taught = tuple(greedy or index == last_module for index in range(len(WIDTHS)))
    memory = 0
    for step in range(settings.steps + 1):
        chosen = pictures[torch.randperm(len(pictures), generator=rng)[: settings.batch]]
        patches = patches_of(views(chosen, rng, PLAIN, SIZE))
        others = [sample_negatives(settings.batch, ahead, rng) for ahead in AHEAD]
        if not step:
            memory = kept_bytes(net, patches, greedy)
        maps = net(patches, greedy)
        zs = [vectors(x) for x in maps]
        found = [info_nce(z, module, others) for z, module in zip(zs, net.modules_in_order(), strict=True)]
        last, measured = step == settings.steps, step == settings.steps or step % EVERY == 0
        probabilities = patches_shown = None
        if measured:
            with torch.no_grad():
                logits = scores(zs[-1], net.modules_in_order()[-1].predict[0], AHEAD[0], others[0])
            probabilities = logits[GRID].softmax(0).numpy()  # from the first patch of the second row
            patches_shown = patches[[GRID, 2 * GRID], 0].add(1).mul(127.5).round().to(torch.uint8).numpy()
        yield Step(
            step=step,
            steps=settings.steps,
            losses=tuple(float(loss.detach()) for loss, _ in found),
            taught=taught,
            accuracy=tuple(float(share) for _, share in found),
            gradients=gradient_table(net, [loss for loss, _ in found]) if measured else None,
            nouns=probe(net) if measured else None,
            memory=memory,
            probabilities=probabilities,
            patches_shown=patches_shown,
        )
        if last:
            return
        loss = torch.stack([loss for (loss, _), learns in zip(found, taught, strict=True) if learns]).sum()
        if not torch.isfinite(loss):
            raise UserError(
                "The loss is no number any more. Choose a smaller learning rate than {rate}.",
                rate=settings.learning_rate,
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def run(settings: Greedy) -> Iterator[Preparing | Frame]:
    """A is greedy, B end to end, on one clock."""
    yield from drawing((QUERIES, SIZE), (BANK, SIZE), (TRAINING, LARGER))
    (known,) = one_core(baselines_once)(settings.seed)
    for a, b in side_by_side(lambda: train(settings, True), lambda: train(settings, False)):
        yield Frame(a=a, b=b, baselines=known)
