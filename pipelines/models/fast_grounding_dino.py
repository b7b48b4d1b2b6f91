"""The same Grounding DINO, sooner: transformers' modules with other forwards, over the same weights.

`faster` gives a second view of a model, GroundingDino or MMGroundingDino of any size, in which the parts that cost the
time compute the same result in another order; the model itself stays as it is. The view reads no padding masks:
pictures of a batch have one size, and prompts one length.

1. Fusion of picture and words: (N, d) pixels times (d, c) weights times (c, T) words, with T far below c, is cheaper
   from the right. All three projections of the pixels fall away.
2. Deformable attention (Zhu et al. 2020, https://arxiv.org/abs/2010.04159): a weighted sum of bilinear samples is a
   weighted sum of rows, which an embedding bag adds up without writing any of them down.
3. What is wide and soon forgotten is made for a few pixels at a time, so that it stays in the processor's cache.
4. Plain attention by PyTorch's fused one.

With `precision="bfloat16"` the linear layers multiply in bfloat16 and everything between them stays float32: norms,
softmax, sampling, the heads that refine boxes, and the text tower, whose few tokens would gain nothing.
"""

import copy
import types
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.errors import UserError

Precision = Literal["float32", "bfloat16"]

ROWS = 1024  # pixels at a time: their 2048 hidden units are 8 MB


def _fusion(
    layer: Any, vision_features: Tensor, text_features: Tensor, **_
) -> tuple[tuple[Tensor, None], tuple[Tensor, None]]:
    """(B, N, d) pixels and (B, T, d) words look at each other, with h heads of c channels (GLIP, Li et al. 2021,
    https://arxiv.org/abs/2112.03857).

    A pixel x and a word meet in (Wx + b) . k = x . (W'k) + b . k, so it is the T words that go through W. What a word
    takes from the pixels is W (sum of p x) + b, the shares p adding up to 1; and what a pixel takes from the words is
    projected while it is still words.
    """
    attention = layer.attn
    pixels, text = layer.layer_norm_vision(vision_features), layer.layer_norm_text(text_features)
    by_head = text.shape[:2] + (attention.num_heads, attention.head_dim)  # (B, T, h, c)

    def weight(linear: Any) -> Tensor:  # (h, c, d)
        return linear.weight.unflatten(0, by_head[2:])

    keys = attention.text_proj(text).view(by_head) * attention.scale
    asked = torch.einsum("bthc,hcd->bhtd", keys, weight(attention.vision_proj)).flatten(1, 2)  # (B, hT, d)
    constant = torch.einsum("bthc,hc->bht", keys, attention.vision_proj.bias.view(by_head[2:]))
    similar = (asked @ pixels.transpose(1, 2)).unflatten(1, constant.shape[1:]) + constant[..., None]  # (B, h, T, N)

    seen = similar.softmax(-1).flatten(1, 2) @ pixels  # (B, hT, d)
    seen = torch.einsum("bhtd,hcd->bthc", seen.unflatten(1, constant.shape[1:]), weight(attention.values_vision_proj))
    to_text = attention.out_text_proj(seen.flatten(2) + attention.values_vision_proj.bias)

    told = attention.values_text_proj(text).view(by_head)
    told = torch.einsum("bthc,dhc->bhtd", told, attention.out_vision_proj.weight.unflatten(1, by_head[2:]))
    to_pixels = similar.softmax(2).flatten(1, 2).transpose(1, 2) @ told.flatten(1, 2)  # (B, N, d)
    to_pixels = to_pixels + attention.out_vision_proj.bias
    return (pixels + layer.vision_param * to_pixels, None), (text + layer.text_param * to_text, None)


def _in_parts(layer: Any, hidden_states: Tensor) -> Tensor:
    """The layer's perceptron over (B, N, d), whose wide middle is there for a few of the N at a time."""
    parts = [layer.fc2(layer.activation_fn(layer.fc1(some))) for some in hidden_states.split(ROWS, dim=1)]
    return torch.cat(parts, dim=1)


def _columns(layer: Any, spatial_shapes: Tensor) -> tuple[Tensor, Tensor]:
    """For each of the C = h * L * P samples of a query: (2, C) width and height of its level, and (C) where that level
    begins for its head in a table of (S * h, d / h) values, whose rows are pixels and, within a pixel, heads."""
    sizes, heads = spatial_shapes.flip(1), torch.arange(layer.n_heads, device=spatial_shapes.device)
    areas = sizes.prod(1)
    starts = heads[:, None] + (areas.cumsum(0) - areas) * layer.n_heads  # (h, L)
    grid = torch.stack([*sizes.T.unsqueeze(1).expand(-1, *starts.shape), starts])  # (3, h, L)
    columns = grid.repeat_interleave(layer.n_points, dim=-1).flatten(1).float()  # exact up to 16 million rows
    return columns[:2], columns[2]


def _sampled(values: Tensor, x: Tensor, y: Tensor, weights: Tensor, sizes: Tensor, starts: Tensor) -> Tensor:
    """Weighted sums of bilinear samples, zero outside the picture.

    A sample lies between four pixels, so that k of them are a weighted sum of 4k rows of `values`. All arithmetic is
    on (Q, C) matrices: the same with an axis for heads, levels and points would run through them four numbers at a
    time.

    Args:
        values: (S, h, d) of all levels, one after the other.
        x, y: (Q, C) in pixels of the sample's level, whole numbers at their centres; C counts the samples of all heads.
        weights: (Q, C) of the samples.
        sizes: (2, C) width and height of the sample's level.
        starts: (C) where its level and head begin among the S * h rows of `values`.

    Returns:
        (Q, h * d)
    """
    heads, width = values.shape[1], sizes[0] * values.shape[1]

    def sides(place: Tensor, size: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The two pixels around each place on one axis: which, and their shares, 0 where there is none."""
        before = place.floor()
        share = place - before
        after = before + 1
        first, second = before.clamp(0, None).minimum(size - 1), after.clamp(0, None).minimum(size - 1)
        return [(first, (1 - share) * (first == before)), (second, share * (second == after))]

    rows, parts = [], []
    for row, of_row in sides(y, sizes[1]):
        start, of_row = row * width + starts, weights * of_row
        for column, of_column in sides(x, sizes[0]):
            rows.append(column * heads + start)
            parts.append(of_row * of_column)

    def bags(corners: list[Tensor]) -> Tensor:  # four of (Q, C) -> (Q * h, 4 C / h)
        return torch.stack([corner.unflatten(1, (heads, -1)) for corner in corners], 2).view(len(x) * heads, -1)

    table = values.reshape(-1, values.shape[-1])
    return F.embedding_bag(bags(rows).int(), table, mode="sum", per_sample_weights=bags(parts)).view(len(x), -1)


def _deformable_attention(
    layer: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    position_embeddings: Tensor,
    reference_points: Tensor,
    spatial_shapes: Tensor,
    **_,
) -> tuple[Tensor, None]:
    """(B, Q, d) queries look at P places of each level around their points, or boxes: (B, Q, L, 2 or 4), the same on
    every level where nothing is padded."""
    values = layer.value_proj(encoder_hidden_states).unflatten(-1, (layer.n_heads, -1))  # (B, S, h, d / h)
    sizes, starts = _columns(layer, spatial_shapes)
    around = reference_points[:, :, 0, :, None]  # (B, Q, 2 or 4, 1)

    def look(values: Tensor, queries: Tensor, around: Tensor) -> Tensor:
        """Of one picture: (S, h, d / h), (Q, d) and (Q, 2 or 4, 1) -> (Q, d)."""
        offsets = layer.sampling_offsets(queries).unflatten(1, (-1, 2)).transpose(1, 2)  # (Q, 2, C)
        weights = layer.attention_weights(queries).unflatten(1, (layer.n_heads, -1)).softmax(-1).flatten(1)
        # An offset is in pixels of its level, or in P-ths of half the box.
        moved = offsets * (around[:, 2:] * sizes / (2 * layer.n_points)) if around.shape[1] == 4 else offsets
        x, y = (around[:, :2] * sizes + moved - 0.5).unbind(1)
        return _sampled(values, x, y, weights, sizes, starts)

    queries = hidden_states + position_embeddings
    found = [
        look(of_one, *some)
        for of_one, *parts in zip(values, queries, around, strict=True)
        for some in zip(*(part.split(ROWS) for part in parts), strict=True)
    ]
    return layer.output_proj(torch.cat(found).view_as(hidden_states)), None


def _deformable_layer(layer: Any, hidden_states: Tensor, **others) -> tuple[Tensor, None]:
    """(B, N, d) pixels look around, then change one by one."""
    seen, _ = layer.self_attn(hidden_states=hidden_states, encoder_hidden_states=hidden_states, **others)
    pixels = layer.self_attn_layer_norm(hidden_states + seen)
    return layer.final_layer_norm(pixels + _in_parts(layer, pixels)), None


def _attention(
    layer: Any, queries: Tensor, keys: Tensor, values: Tensor, attention_mask: Tensor | None = None, **_
) -> tuple[Tensor, None]:
    """(B, Q, d) and (B, K, d) -> (B, Q, d); the mask, (B, h, Q, K), is added to the scores."""

    def by_head(linear: Any, tokens: Tensor) -> Tensor:
        return linear(tokens).unflatten(-1, (layer.num_attention_heads, -1)).transpose(1, 2)

    context = F.scaled_dot_product_attention(
        by_head(layer.query, queries), by_head(layer.key, keys), by_head(layer.value, values), attention_mask
    )
    return layer.out_proj(context.transpose(1, 2).flatten(2)), None


def _linear(layer: Any, tokens: Tensor) -> Tensor:
    """float32 in and out, bfloat16 products."""
    return F.linear(tokens.bfloat16(), *layer.halved).float()


FORWARDS: dict[str, Callable] = {  # transformers' class, without GroundingDino in front
    "FusionLayer": _fusion,
    "DeformableLayer": _deformable_layer,
    "MultiscaleDeformableAttention": _deformable_attention,
    "MultiheadAttention": _attention,
    "SwinMLP": _in_parts,
}
EXACT = "MLPPredictionHead", "BertModel"  # whose products stay float32


def checked(precision: str) -> str:
    """The same.

    Raises:
        UserError: where it is unknown.
    """
    if precision not in get_args(Precision):
        raise UserError(
            "The precision must be one of {allowed}, not {value}.",
            allowed=", ".join(get_args(Precision)),
            value=repr(precision),
        )
    return precision


def faster(module: Any, precision: str = "float32") -> Any:
    """A second view of `module`, in eval mode, that computes the same; `checked` says what it raises.

    bfloat16 keeps a second copy of the linear layers' weights, and gains nothing where the processor has no such
    products.
    """
    view, name = copy.copy(module), type(module).__name__.removeprefix("MM").removeprefix("GroundingDino")
    if checked(precision) == "bfloat16" and isinstance(module, nn.Linear):
        view.halved = module.weight.bfloat16(), None if module.bias is None else module.bias.bfloat16()
        view.forward = types.MethodType(_linear, view)
    if name in FORWARDS:
        view.forward = types.MethodType(FORWARDS[name], view)
    inside = "float32" if name in EXACT else precision
    view._modules = {name: child and faster(child, inside) for name, child in module._modules.items()}
    return view
