"""Small networks: their shapes, what they can see, and that a seed is all they come from."""

import pytest
import torch

from pipelines.small_nets import BagNet, PatchCNN, SmallViT, initialised

NETS = {
    "cnn": PatchCNN,
    "bag": BagNet,
    "vit": SmallViT,
    "order-blind vit": lambda: SmallViT(positions=False),
}


def shuffled(pixels: torch.Tensor, patch: int, rng: torch.Generator) -> torch.Tensor:
    batch, channels, size, _ = pixels.shape
    side = size // patch
    pieces = pixels.view(batch, channels, side, patch, side, patch).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    pieces = pieces[:, torch.randperm(side * side, generator=rng)].unflatten(1, (side, side))
    return pieces.permute(0, 3, 1, 4, 2, 5).reshape(pixels.shape)


@pytest.mark.parametrize("name", NETS)
def test_a_picture_becomes_one_vector_and_the_seed_decides(name):
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = torch.random.get_rng_state()
    one, again, other = (initialised(NETS[name](), seed) for seed in (1, 1, 2))
    torch.random.set_rng_state(before)
    assert one(pixels).shape == (4, one.width)
    assert torch.equal(one(pixels), again(pixels)) and not torch.allclose(one(pixels), other(pixels))
    one(pixels).sum().backward()
    assert all(weights.grad is not None for weights in one.parameters())


def test_the_convolutional_one_is_as_large_as_said():
    assert 0.44e6 < sum(weights.numel() for weights in PatchCNN().parameters()) < 0.46e6


@pytest.mark.parametrize("name, blind", [("cnn", False), ("bag", True), ("vit", False), ("order-blind vit", True)])
def test_who_notices_that_patches_changed_places(name, blind):
    net = initialised(NETS[name](), 3).double().eval()
    rng = torch.Generator().manual_seed(0)
    pixels = torch.rand(4, 3, 32, 32, dtype=torch.float64, generator=rng)
    with torch.no_grad():
        difference = (net(pixels) - net(shuffled(pixels, 8, rng))).abs().max()
    assert (difference < 1e-10) if blind else (difference > 1e-4)
