"""Every vision transformer of the registry behind the same call.

`OpenClipEncoder` and `TransformersEncoder` wrap the models; `encode(pixels, kept)` then returns the
class token, the tokens of the patches and, layer by layer and head by head, how much the class token attends to each
patch. With `kept`, the other patches are really dropped after the position embedding (He et al. 2022,
https://arxiv.org/abs/2111.06377, section 3), not masked. Models are only read: what has to look inside one does so
within a `with`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipelines.errors import OTHER_MODEL, require_finite


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What a vision transformer says about a batch of pictures."""

    cls: Tensor  # (B, D) class token after the final norm
    patches: Tensor  # (B, M, D) patch tokens after the final norm, in the order of `kept`
    attention: Tensor | None  # (B, L, h, M) softmax row of the class token over the patches; with itself it sums to 1


def _finite(tokens: Tokens) -> Tokens:
    """The same. Raises NotFinite where a token holds NaN or infinity."""
    require_finite("the features of this picture", OTHER_MODEL, tokens.cls, tokens.patches)
    return tokens


def centre_square(picture: Image.Image) -> Image.Image:
    """The largest square in the middle of the picture: a vision transformer looks at a square."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """(B, N, D), (B, M) integer -> (B, M, D)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


# --------------------------------------------------------------------------------------------------------- OpenCLIP


def residual_block(block: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """One OpenCLIP `ResidualAttentionBlock`, (B, T, D) -> the same and its attention weights (B, h, T, T).

    Written as plain matrix products: fused attention returns no weights, and on a CPU its backward pass takes three
    times as long as the products it replaces.
    """
    batch, length, width = x.shape
    attention = block.attn
    projected = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = projected.view(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, h, T, d)
    weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(-1)  # (B, h, T, T)
    mixed = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(batch, length, width)
    x = x + block.ls_1(attention.out_proj(mixed))
    return x + block.ls_2(block.mlp(block.ln_2(x))), weights


def openclip_tokens(
    visual: Any,
    pixels: Tensor,
    kept: Tensor | None = None,
    attention: bool = True,
    dtype: torch.dtype | None = None,
) -> Tokens:
    """An OpenCLIP `VisionTransformer`'s own forward pass, patches dropped where asked, attention kept.

    Args:
        visual: the image tower.
        pixels: (B, 3, H, W), normalised as the model wants it.
        kept: (B, M) indices of the patches to keep; None keeps all.
        attention: whether to return the class token's attention.
        dtype: of the residual stream; bfloat16 halves the memory traffic of training on a CPU. None leaves it alone.
    """
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)  # (B, N, D)
    position = visual.positional_embedding.to(x.dtype)
    x = x + position[1:]
    if kept is not None:
        x = gather_tokens(x, kept)  # (B, M, D)
    cls = (visual.class_embedding.to(x.dtype) + position[0]).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([cls, x], dim=1)).to(dtype or x.dtype)  # (B, 1+M, D)
    rows = []
    for block in visual.transformer.resblocks:
        x, weights = residual_block(block, x)
        if attention:
            rows.append(weights[:, :, 0, 1:])
    x = visual.ln_post(x)
    return Tokens(cls=x[:, 0], patches=x[:, 1:], attention=torch.stack(rows, dim=1) if attention else None)


@dataclass(frozen=True, kw_only=True)
class OpenClipEncoder:
    """An OpenCLIP image tower."""

    visual: Any  # OpenCLIP's own module

    @property
    def grid(self) -> int:
        return self.visual.grid_size[0]

    @property
    def prefix(self) -> int:
        """Tokens that are no patches: the class token."""
        return 1

    @property
    def width(self) -> int:
        return self.visual.conv1.out_channels

    @property
    def layers(self) -> int:
        return len(self.visual.transformer.resblocks)

    @property
    def heads(self) -> int:
        return self.visual.transformer.resblocks[0].attn.num_heads

    @torch.no_grad()
    def encode(self, pixels: Tensor, kept: Tensor | None = None) -> Tokens:
        return _finite(openclip_tokens(self.visual, pixels, kept))


# ----------------------------------------------------------------------------------------------------- transformers


@contextmanager
def watch_class_attention(layers: Iterable[Any]) -> Iterator[list[Tensor]]:
    """Within the `with`, each layer's class-token attention (B, h, T) is appended to the list that this yields.

    Only the class token's row is computed, from the layer's own queries and keys; the model goes on with its fused
    attention.
    """
    rows: list[Tensor] = []
    handles = []

    def heads_apart(projected: Tensor, module: Any) -> Tensor:
        return projected.unflatten(-1, (module.num_attention_heads, -1)).transpose(1, 2)  # (B, h, T, d)

    for layer in layers:
        module, found = layer.attention, dict[str, Tensor]()

        def keep_query(_, __, output: Tensor, found: dict = found) -> None:
            found["query"] = output[:, :1]

        def keep_key(_, __, output: Tensor, found: dict = found, module: Any = module) -> None:
            query, key = heads_apart(found["query"], module), heads_apart(output, module)
            rows.append((query * module.scaling @ key.transpose(-2, -1)).softmax(-1)[:, :, 0])

        handles += [module.q_proj.register_forward_hook(keep_query), module.k_proj.register_forward_hook(keep_key)]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, kw_only=True)
class TransformersEncoder:
    """A transformers `ViTModel`, `Dinov2Model`, `Dinov2WithRegistersModel` or `ViTMAEModel`, run at `size` pixels."""

    model: Any  # transformers' own module
    size: int

    @property
    def grid(self) -> int:
        return self.size // self.model.config.patch_size

    @property
    def prefix(self) -> int:
        """Tokens that are no patches: the class token and any registers."""
        return 1 + getattr(self.model.config, "num_register_tokens", 0)

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    @property
    def layers(self) -> int:
        return len(self._layers)

    @property
    def heads(self) -> int:
        return self._layers[0].attention.num_attention_heads

    @property
    def _layers(self) -> Any:
        return self.model.encoder.layer if hasattr(self.model, "encoder") else self.model.layers

    def _embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, prefix + N, D) with positions. MAE's own embedding would already drop patches."""
        embeddings = self.model.embeddings
        if not hasattr(embeddings, "random_masking"):
            return embeddings(pixels)
        patches = embeddings.patch_embeddings(pixels) + embeddings.position_embeddings[:, 1:]
        cls = embeddings.cls_token + embeddings.position_embeddings[:, :1]
        return torch.cat([cls.expand(len(patches), -1, -1), patches], dim=1)

    @torch.no_grad()
    def encode(self, pixels: Tensor, kept: Tensor | None = None) -> Tokens:
        x = self._embed(pixels)
        prefix = self.prefix
        if kept is not None:
            x = torch.cat([x[:, :prefix], gather_tokens(x[:, prefix:], kept)], dim=1)
        with watch_class_attention(self._layers) as rows:
            for layer in self._layers:
                x = layer(x)
        x = self.model.layernorm(x)
        return _finite(
            Tokens(
                cls=x[:, 0], patches=x[:, prefix:], attention=torch.stack([row[:, :, prefix:] for row in rows], dim=1)
            )
        )


Encoder = OpenClipEncoder | TransformersEncoder
