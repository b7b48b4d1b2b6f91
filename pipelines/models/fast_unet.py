"""The same UNet, sooner: diffusers' modules with other forwards, over the same weights.

`faster` gives a second view of a UNet2DConditionModel; the model itself stays as it is. The view

1. keeps pictures in one order in memory, channels last, which is also the list of tokens that attention wants;
2. takes group norms in float32, for which PyTorch has the faster kernel;
3. asks every word once what it offers: all steps of a run share the words;
4. looks at pixels once that are drawn for several sets of words, as guidance does: until the first cross-attention,
   both passes are the same.

It reads no attention masks. What a model has beyond the parts of Stable Diffusion is left to diffusers.
"""

import copy
import math
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn


def _group_norm(norm: nn.GroupNorm, pixels: Tensor) -> Tensor:
    """(B, C, H, W) -> the same in float32."""
    return F.group_norm(pixels.float(), norm.num_groups, norm.weight.float(), norm.bias.float(), norm.eps)


def _as_many(states: Tensor, others: Tensor) -> Tensor:
    """(B, ...) as often as others, (kB, ...), have rows."""
    return states if len(states) == len(others) else torch.cat([states] * (len(others) // len(states)))


def _residual(block: Any, pixels: Tensor, time: Tensor, *_, **__) -> Tensor:
    """(B, C, H, W) pixels and (B, D) time -> (B, C', H, W)."""
    told = _as_many(block.time_emb_proj(F.silu(time))[:, :, None, None], pixels)
    middle = block.conv1(F.silu(_group_norm(block.norm1, pixels)).to(pixels.dtype)) + told
    found = block.conv2(F.silu(_group_norm(block.norm2, middle)).to(pixels.dtype))
    return found + (pixels if block.conv_shortcut is None else block.conv_shortcut(pixels))


def _project(layer: nn.Linear | nn.Conv2d, tokens: Tensor) -> Tensor:
    """(B, N, C) -> (B, N, C') by a linear layer or a 1x1 convolution, which is one."""
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)


def _transformer(model: Any, pixels: Tensor, encoder_hidden_states: Tensor, **_) -> tuple[Tensor]:
    """(B, C, H, W) pixels and (kB, T, D) words -> (kB, C, H, W)."""
    tokens = _group_norm(model.norm, pixels).to(pixels.dtype).permute(0, 2, 3, 1).flatten(1, 2)
    tokens = _project(model.proj_in, tokens)
    for block in model.transformer_blocks:
        tokens = block(tokens, encoder_hidden_states=encoder_hidden_states)
    found = _project(model.proj_out, tokens).unflatten(1, pixels.shape[2:])
    return (_as_many(pixels, found) + found.permute(0, 3, 1, 2),)


def _block(block: Any, tokens: Tensor, encoder_hidden_states: Tensor, **_) -> Tensor:
    """(B, N, C) tokens and (kB, T, D) words -> (kB, N, C)."""
    tokens = _as_many(tokens + block.attn1(block.norm1(tokens)), encoder_hidden_states)
    tokens = tokens + block.attn2(block.norm2(tokens), encoder_hidden_states)
    wide, _, back = block.ff.net
    values, gates = wide.proj(block.norm3(tokens)).chunk(2, dim=-1)
    return tokens + back(values * F.gelu(gates))


def _attention(layer: Any, tokens: Tensor, encoder_hidden_states: Tensor | None = None, **_) -> Tensor:
    """(B, N, C) tokens look at (B, T, D) words or at themselves; by the capturing processor, where there is one."""
    if not isinstance(layer.processor, AttnProcessor2_0):
        return layer.processor(layer, tokens, encoder_hidden_states)

    def by_head(states: Tensor) -> Tensor:
        return states.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    key, value = _offered(layer, tokens, encoder_hidden_states)
    mixed = F.scaled_dot_product_attention(by_head(layer.to_q(tokens)), by_head(key), by_head(value))
    return layer.to_out[0](mixed.transpose(1, 2).flatten(2))


def _offered(layer: Any, tokens: Tensor, words: Tensor | None) -> tuple[Tensor, Tensor]:
    """Keys and values, (B, T, C); those of the words of the last pass are kept."""
    if words is None:
        return layer.to_k(tokens), layer.to_v(tokens)
    if layer.kept[0] is not words:
        layer.kept = words, layer.to_k(words), layer.to_v(words)
    return layer.kept[1:]


def _up(
    block: Any,
    hidden_states: Tensor,
    res_hidden_states_tuple: tuple[Tensor, ...],
    temb: Tensor,
    encoder_hidden_states: Tensor | None = None,
    upsample_size: tuple[int, int] | None = None,
    **_,
) -> Tensor:
    """(kB, C, H, W) pixels and those of the way down, of B or kB rows, the last first -> (kB, C', H', W')."""
    pixels = hidden_states
    for place, layer in enumerate(block.resnets):
        kept = res_hidden_states_tuple[-1 - place]
        pixels = layer(torch.cat([pixels, _as_many(kept, pixels)], dim=1), temb)
        if encoder_hidden_states is not None:
            (pixels,) = block.attentions[place](pixels, encoder_hidden_states=encoder_hidden_states, return_dict=False)
    for layer in block.upsamplers or ():
        pixels = layer(pixels, upsample_size)
    return pixels


FORWARDS: dict[str, Callable] = {  # diffusers' class
    "ResnetBlock2D": _residual,
    "Transformer2DModel": _transformer,
    "BasicTransformerBlock": _block,
    "Attention": _attention,
    "UpBlock2D": _up,
    "CrossAttnUpBlock2D": _up,
}
BLOCKS = {"CrossAttnDownBlock2D", "DownBlock2D", "UNetMidBlock2DCrossAttn", "CrossAttnUpBlock2D", "UpBlock2D"}
BLOCKS |= {"NoneType"}  # a UNet without a middle


def _usual(module: Any) -> bool:
    """Whether it is made as in Stable Diffusion."""
    if type(module).__name__ == "ResnetBlock2D":
        added = module.time_embedding_norm == "default" and module.time_emb_proj is not None
        resized = module.upsample is not None or module.downsample is not None
        plain = isinstance(module.nonlinearity, nn.SiLU) and module.output_scale_factor == 1
        return added and plain and not resized and not module.skip_time_act
    if type(module).__name__ == "Transformer2DModel":
        return module.is_input_continuous
    if type(module).__name__ == "BasicTransformerBlock":
        gated = type(module.ff.net[0]).__name__ == "GEGLU"
        both = module.attn2 is not None and not module.only_cross_attention
        return gated and both and module.norm_type == "layer_norm" and module.pos_embed is None
    if type(module).__name__ == "Attention":
        norms = (module.group_norm, module.spatial_norm, module.norm_cross, module.norm_q, module.norm_k)
        plain = module.rescale_output_factor == 1 and not module.residual_connection
        scaled = math.isclose(module.scale, (module.to_q.out_features / module.heads) ** -0.5)
        return plain and scaled and all(norm is None for norm in norms)
    return True


def faster(unet: Any) -> Any:
    """A second view of a UNet, in eval mode, that computes the same.

    Where its `looks_once` is true it also takes B pictures with kB sets of words, for the k answers one after another.
    """
    view = _view(unet)
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    view.looks_once = {type(block).__name__ for block in blocks} <= BLOCKS and all(_usual(m) for m in unet.modules())
    return view


def _view(module: Any) -> Any:
    view, name = copy.copy(module), type(module).__name__
    if name in FORWARDS and _usual(module):
        view.forward = types.MethodType(FORWARDS[name], view)
    if name == "Attention":
        view.kept = (None,)  # words, and what they offer
    view._modules = {name: child and _view(child) for name, child in module._modules.items()}
    return view
