"""What the training scripts share: the loop itself, the schedule, checkpoints that resume, and the log the app
draws.
"""

import argparse
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch import Tensor, nn

from pipelines.training.pairs import loader, pairs

Learner = TypeVar("Learner", bound=nn.Module)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def learning_rate(step: int, steps: int, peak: float, warmup: int, decay: int) -> float:
    """Rise for `warmup` steps, stay, fall linearly over the last `decay`: a run can be lengthened before it falls."""
    return peak * min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / decay))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW groups: matrices decay, biases, norms, scales and tokens do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


class Muon:
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) for matrices and convolution kernels, each
    kernel as a matrix of its outputs by all it sees; AdamW at half the rate for everything else.

    Not torch's own, which takes matrices only and multiplies them in bfloat16: a CPU that has to emulate it spends 15
    seconds a step on what takes a quarter of one in float32.

    Args:
        tables: modules whose matrices are rows to look up, such as embeddings: left to AdamW.
    """

    SMALLEST = 16  # a side: below it there is nothing to orthogonalise
    MOMENTUM = 0.95

    def __init__(self, model: nn.Module, lr: float, weight_decay: float = 0.01, tables: type = nn.Embedding):
        looked_up = {p for module in model.modules() if isinstance(module, tables) for p in module.parameters()}
        trained = [p for p in model.parameters() if p.requires_grad]
        self.kernels = [p for p in trained if p.ndim > 1 and min(p.shape[:2]) >= self.SMALLEST and p not in looked_up]
        self.momenta = [torch.zeros_like(p) for p in self.kernels]
        self.lr, self.weight_decay = lr, weight_decay
        chosen = set(self.kernels)
        rest = [p for p in trained if p not in chosen]
        self.adamw = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)

    def set_rate(self, rate: float) -> None:
        self.lr, self.adamw.param_groups[0]["lr"] = rate, rate / 2

    @torch.no_grad()
    def step(self) -> None:
        for kernel, momentum in zip(self.kernels, self.momenta, strict=True):
            if kernel.grad is None:
                continue
            momentum.lerp_(kernel.grad, 1 - self.MOMENTUM)
            ahead = kernel.grad.lerp(momentum, self.MOMENTUM).flatten(1)  # Nesterov's
            # Scaled to the size of AdamW's steps (Liu et al. 2025, https://arxiv.org/abs/2502.16982, section 2.2).
            size = self.lr * 0.2 * math.sqrt(max(ahead.shape))
            kernel.mul_(1 - self.lr * self.weight_decay)
            kernel.sub_(size * orthogonal(ahead).view_as(kernel))
        self.adamw.step()

    def zero_grad(self) -> None:
        for parameter in (*self.kernels, *self.adamw.param_groups[0]["params"]):
            parameter.grad = None

    def state_dict(self) -> dict:
        return {"momenta": self.momenta, "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        for own, saved in zip(self.momenta, state["momenta"], strict=True):
            own.copy_(saved)
        self.adamw.load_state_dict(state["adamw"])


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the nearest matrix (n, m) whose singular values are all 1: five steps of Muon's Newton-Schulz iteration.

    Every step multiplies from the left with a polynomial of X X^T, and all of these commute; so the steps are taken on
    the square of the shorter side alone, and the matrix itself is multiplied once, at the end.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    matrix = matrix / matrix.norm().clamp_min(1e-7)
    square = matrix @ matrix.T
    whole: Tensor | None = None
    for _ in range(5):
        turn = torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315)
        turn.diagonal().add_(3.4445)
        whole = turn if whole is None else turn @ whole
        square = turn @ square @ turn
    assert whole is not None, "five steps have been taken"
    return whole @ matrix


class AdamW(torch.optim.AdamW):
    """torch's, with `Muon`'s way to set the rate."""

    def set_rate(self, rate: float) -> None:
        for group in self.param_groups:
            group["lr"] = rate


def save_checkpoint(path: Path, **state: Any) -> None:
    """Write whole, then rename: a run that is killed leaves the last good checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict | None:
    """What `save_checkpoint` wrote there; None where nothing is."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def trained(folder: Path) -> dict:
    """The last checkpoint in `folder`.

    Raises:
        FileNotFoundError: when there is none.
    """
    state = load_checkpoint(folder / "last.pt")
    if state is None:
        raise FileNotFoundError(f"No checkpoint in {folder}; train first.")
    return state


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class Log:
    """Averages of the logged quantities every `every` steps and at the last, kept as records and printed."""

    def __init__(self, every: int = 25, records: list[dict] | None = None):
        self.every, self.records = every, list(records or [])
        self.sums: dict[str, float] = defaultdict(float)
        self.count, self.start = 0, time.monotonic()

    def add(self, step: int, last: bool = False, **values: float) -> None:
        for name, value in values.items():
            self.sums[name] += float(value)
        self.count += 1
        if step % self.every == 0 or last:
            record = {"step": step, **{name: round(total / self.count, 5) for name, total in self.sums.items()}}
            record["seconds_per_step"] = round((time.monotonic() - self.start) / self.count, 3)
            self.records.append(record)
            print(json.dumps(record), flush=True)
            self.sums.clear()
            self.count, self.start = 0, time.monotonic()


def precision(device: torch.device, wanted: str = "auto") -> torch.dtype:
    """The type that products are computed in: the one of `PRECISIONS` that is wanted, or with `auto` bfloat16 where the
    machine computes in it, else float32, as a CPU that has to emulate it is 3 times slower."""
    if wanted != "auto":
        return PRECISIONS[wanted]
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if device.type != "cpu" or native else torch.float32


def mixed(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Within the `with`, products are computed in `dtype`; everything stays as it is where that is float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def require_finite(step: int, checkpoint: Path, **found: Tensor | float) -> None:
    """Nothing is learnt from, or saved after, a loss or a gradient that is no number.

    Raises:
        FloatingPointError: names what is no number, the step, and the checkpoint to go on from, if there is one.
    """
    for name, value in found.items():
        number = float(value.detach() if isinstance(value, Tensor) else value)
        if not math.isfinite(number):
            there = f"the last checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint yet"
            raise FloatingPointError(f"The {name} is {number} at step {step}; {there}.")


def add_arguments(parser: argparse.ArgumentParser, checkpoint: str, steps: int, decay: int, seed: int) -> None:
    parser.add_argument("--checkpoint", default=checkpoint, help="folder of the resumable checkpoint")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=64, help="pictures per process and step")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps until the full learning rate")
    parser.add_argument(
        "--decay", type=int, default=decay, help="last steps, over which the learning rate falls to zero"
    )
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--cpu", action="store_true", help="do not use an accelerator")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write the checkpoint's model there instead of training"
    )


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    told = "storybook, world (the wide one), a folder of pairs, or WebDataset shards"
    parser.add_argument("--data", default="storybook", help=told)


def add_precision_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=("auto", *PRECISIONS), default="auto", help="of the products; auto: what is fast here"
    )


def add_optimizer_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")


def fit(
    model: Learner,
    tokenize: Callable[[list[str]], Tensor],
    forward: Callable[[Any, Learner, Tensor, Tensor, int, torch.Generator], dict[str, Any]],
    arguments: argparse.Namespace,
    size: int,
    views: int,
    settings: dict,
    after_step: Callable[[Learner], None],
) -> None:
    """Train until `arguments.steps`, from the checkpoint if there is one; mixed precision, one or many processes.

    Args:
        forward: (wrapped model, inner model, pixels (views, B, 3, H, W), token ids (B, T), step, generator) ->
            quantities to log,
            `total` among them. The generator depends on seed, step and process alone.
        size: pixels, the side of the model's picture.
        settings: kept in the checkpoint.
        after_step: called with the inner model after every optimiser step.

    Raises:
        FloatingPointError: when the loss or its gradient is no number any more; the last checkpoint stays.
    """
    accelerator = Accelerator(
        cpu=arguments.cpu, kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]
    )
    checkpoint = Path(arguments.checkpoint) / "last.pt"
    state = load_checkpoint(checkpoint)
    step, log = 0, Log()
    if state:
        model.load_state_dict(state["model"])
    model = accelerator.prepare(model)
    inner = accelerator.unwrap_model(model)
    if arguments.optimizer == "muon":
        optimizer: Muon | AdamW = Muon(inner, arguments.lr, 0.05)
    else:
        optimizer = AdamW(parameter_groups(inner, 0.05), lr=arguments.lr, betas=(0.9, 0.98), eps=1e-8)
    if state:
        optimizer.load_state_dict(state["optimizer"])
        step, log = state["step"], Log(records=state["records"])
    dtype = precision(accelerator.device, arguments.precision)
    world, rank = accelerator.num_processes, accelerator.process_index
    dataset = pairs(arguments.data, arguments.seed, size, views, 0.5, step * arguments.batch * world, rank, world)
    batches = iter(loader(dataset, arguments.batch, tokenize, arguments.workers))

    model.train()
    while step < arguments.steps:
        pixels, text = (x.to(accelerator.device) for x in next(batches))
        rng = torch.Generator().manual_seed(arguments.seed * 10**6 + step * world + rank)
        rate = learning_rate(step, arguments.steps, arguments.lr, arguments.warmup, arguments.decay)
        optimizer.set_rate(rate)
        with mixed(accelerator.device, dtype):
            losses = forward(model, inner, pixels, text, step, rng)
        require_finite(step, checkpoint, loss=losses["total"])
        accelerator.backward(losses["total"])
        norm = accelerator.clip_grad_norm_(model.parameters(), 3.0)
        require_finite(step, checkpoint, gradient=norm)
        optimizer.step()
        optimizer.zero_grad()
        after_step(inner)
        step += 1
        log.add(
            step,
            last=step == arguments.steps,
            **{name: torch.as_tensor(value).item() for name, value in losses.items()},
            gradient_norm=float(norm),
            learning_rate=rate,
        )
        if accelerator.is_main_process and (step % arguments.save_every == 0 or step == arguments.steps):
            save_checkpoint(
                checkpoint,
                model=inner.state_dict(),
                optimizer=optimizer.state_dict(),
                step=step,
                records=log.records,
                settings=settings,
            )
    accelerator.end_training()


def descend(
    model: nn.Module,
    optimizer: Muon | AdamW,
    losses: Callable[[int], dict[str, Tensor]],
    arguments: argparse.Namespace,
    settings: dict,
    extra: dict[str, nn.Module] | None = None,
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """The plain loop of one process: from the checkpoint, if there is one, to `arguments.steps`.

    Args:
        losses: number of the step -> quantities to log, `total` among them.
        arguments: those of `add_arguments`, and `clip`, the longest gradient.
        settings: kept in the checkpoint.
        extra: modules whose weights are saved and resumed as well, such as an average, under these names.
        after_step: called with the number of steps done.

    Raises:
        FloatingPointError: when the loss or its gradient is no number any more; the last checkpoint stays.
    """
    checkpoint = Path(arguments.checkpoint) / "last.pt"
    kept: dict[str, Any] = {"model": model, "optimizer": optimizer, **(extra or {})}
    state, step, log = load_checkpoint(checkpoint), 0, Log()
    if state:
        for name, holder in kept.items():
            holder.load_state_dict(state[name])
        step, log = state["step"], Log(records=state["records"])
    while step < arguments.steps:
        rate = learning_rate(step, arguments.steps, arguments.lr, arguments.warmup, arguments.decay)
        optimizer.set_rate(rate)
        found = losses(step)
        require_finite(step, checkpoint, loss=found["total"])
        found["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), arguments.clip)
        require_finite(step, checkpoint, gradient=norm)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        after_step(step)
        told = {name: value.item() for name, value in found.items()}
        log.add(step, last=step == arguments.steps, **told, gradient_norm=float(norm), learning_rate=rate)
        if step % arguments.save_every == 0 or step == arguments.steps:
            weights = {name: holder.state_dict() for name, holder in kept.items()}
            save_checkpoint(checkpoint, **weights, step=step, records=log.records, settings=settings)


def steps_done(arguments: argparse.Namespace) -> int:
    """Of the checkpoint a run would go on from."""
    state = load_checkpoint(Path(arguments.checkpoint) / "last.pt")
    return state["step"] if state else 0


def seed_everything(seed: int) -> None:
    """Of the process's global generators, which initialise weights. Training scripts only."""
    set_seed(seed)


def teacher_momentum(step: int, steps: int, start: float, end: float = 0.998) -> float:
    """Cosine from `start` to `end` over the run. DetailCLIP goes from 0.996 to 1; a short run must forget sooner."""
    return end - (end - start) * (1 + math.cos(math.pi * step / steps)) / 2
