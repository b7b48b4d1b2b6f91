"""Pictures cut into a grid of pieces, and the pieces put elsewhere."""

import torch
from torch import Tensor


def rearranged(pixels: Tensor, order: Tensor, grid: int) -> Tensor:
    """(B, C, S, S): the grid * grid pieces of pictures, in reading order, put in this order.

    Args:
        order: (grid * grid,) for all pictures, or (B, grid * grid), one for each: old number of the piece that now
            comes first, second, …
        grid: pieces along a side; S is a multiple of it.
    """
    batch, channels, side, _ = pixels.shape
    piece = side // grid
    pieces = pixels.view(batch, channels, grid, piece, grid, piece).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = order.expand(batch, -1)
    moved = pieces[torch.arange(batch)[:, None], order].unflatten(1, (grid, grid))
    return moved.permute(0, 3, 1, 4, 2, 5).reshape(pixels.shape)


def shuffled(count: int, grid: int, rng: torch.Generator) -> Tensor:
    """(count, grid * grid): a random order for each of so many pictures."""
    return torch.rand(count, grid * grid, generator=rng).argsort(1)


def order_of(grid: int, how: str, rng: torch.Generator, movable: Tensor | None = None) -> Tensor:
    """(grid * grid,) one order.

    Args:
        how: "all" pieces change places at random, or "two" of them change places with each other.
        movable: (grid * grid,) bool, the pieces that may move; all when None.
    """
    order = torch.arange(grid * grid)
    free = order.clone() if movable is None else movable.nonzero().flatten()
    chosen = free[torch.randperm(len(free), generator=rng)]
    if how == "two":
        chosen = chosen[:2]
        order[chosen] = chosen.flip(0)
    else:
        order[free] = chosen
    return order
