"""Grounding DINO by its authors' own code: groundingdino-py, fed the weights of transformers, and back.

The two libraries lay out the same model under other names: `to_groundingdino` and `to_transformers` translate a state
dict. `build` makes the authors' model for a transformers model of any size, around three places where groundingdino-py
0.4.0 cannot serve as it is: its text tower calls methods that transformers 5 has removed, its constructor downloads
BERT, and two position embeddings are written for a width of 256. There, the library's own function runs with one of
its names meaning something else; the library itself stays as it is.
"""

import math
import re
import types
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.errors import UserError

# --------------------------------------------------------------------------------------------------------------- names

_SWIN = "model.backbone.conv_encoder.model.swin"
_FUSION = {
    "vision_param": "gamma_v",
    "text_param": "gamma_l",
    "layer_norm_vision": "layer_norm_v",
    "layer_norm_text": "layer_norm_l",
    "attn.vision_proj": "attn.v_proj",
    "attn.text_proj": "attn.l_proj",
    "attn.values_vision_proj": "attn.values_v_proj",
    "attn.values_text_proj": "attn.values_l_proj",
    "attn.out_vision_proj": "attn.out_v_proj",
    "attn.out_text_proj": "attn.out_l_proj",
}
_SWIN_BLOCK = {
    "attention.o_proj": "attn.proj",
    "attention.qkv": "attn.qkv",
    "attention.relative_position_bias.": "attn.",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "mlp": "mlp",
}
_DECODER_LAYER = {
    "encoder_attn_text_layer_norm": "catext_norm",
    "encoder_attn_text": "ca_text",
    "encoder_attn_layer_norm": "norm1",
    "encoder_attn": "cross_attn",
    "self_attn_layer_norm": "norm2",
    "self_attn": "self_attn",
    "final_layer_norm": "norm3",
    "fc": "linear",
}
_BLOCKS = (  # transformers, groundingdino-py, and the parts that are called differently; # is a number
    (f"{_SWIN}.encoder.layers.#.blocks.#.", "backbone.0.layers.#.blocks.#.", _SWIN_BLOCK),
    (f"{_SWIN}.encoder.layers.#.downsample.", "backbone.0.layers.#.downsample.", {"": ""}),
    (
        f"{_SWIN}.embeddings.",
        "backbone.0.",
        {
            "patch_embeddings.projection": "patch_embed.proj",
            "norm": "patch_embed.norm",
            "position_embeddings": "absolute_pos_embed",
        },
    ),
    ("model.encoder.layers.#.fusion_layer.", "transformer.encoder.fusion_layers.#.", _FUSION),
    (
        "model.encoder.layers.#.text_enhancer_layer.",
        "transformer.encoder.text_layers.#.",
        {"layer_norm_before": "norm1", "layer_norm_after": "norm2", "fc": "linear", "self_attn": "self_attn"},
    ),
    (
        "model.encoder.layers.#.deformable_layer.",
        "transformer.encoder.layers.#.",
        {"self_attn_layer_norm": "norm1", "final_layer_norm": "norm2", "fc": "linear", "self_attn": "self_attn"},
    ),
    ("model.decoder.layers.#.", "transformer.decoder.layers.#.", _DECODER_LAYER),
    (
        "model.decoder.",
        "transformer.decoder.",
        {"layer_norm": "norm", "reference_points_head": "ref_point_head", "bbox_embed": "bbox_embed"},
    ),
    (
        "model.",
        "",
        {
            "level_embed": "transformer.level_embed",
            "input_proj_vision": "input_proj",
            "text_backbone": "bert",
            "text_projection": "feat_map",
            "query_position_embeddings": "transformer.tgt_embed",
            "enc_output": "transformer.enc_output",
            "encoder_output_bbox_embed": "transformer.enc_out_bbox_embed",
        },
    ),
    ("bbox_embed", "bbox_embed", {"": ""}),
)
_NAMES = [(old + a, new + b) for old, new, parts in _BLOCKS for a, b in parts.items()]

_STAGE = "model.backbone.conv_encoder.model.hidden_states_norms.stage"  # counted from 1; groundingdino-py from 0
_UNUSED = f"{_SWIN}.layernorm."  # of Swin as a classifier: transformers keeps it, no forward pass reads it
_BERT = ("model.text_backbone.", "bert.")  # the same class in both; its queries, keys and values stay apart


def _renamed(name: str, back: bool = False) -> str:
    """transformers' name -> groundingdino-py's, or with `back` the other way."""
    if not back and name.startswith(_STAGE):
        stage, _, rest = name.removeprefix(_STAGE).partition(".")
        return f"backbone.0.norm{int(stage) - 1}.{rest}"
    if back and (norm := re.match(r"backbone\.0\.norm(\d)\.", name)):
        return f"{_STAGE}{int(norm[1]) + 1}.{name[norm.end() :]}"
    for pair in _NAMES:
        old, new = reversed(pair) if back else pair
        if found := re.match(re.escape(old).replace(r"\#", r"(\d+)"), name):
            for number in found.groups():
                new = new.replace("#", number, 1)
            return new + name[found.end() :]
    raise UserError("{name} is no weight of Grounding DINO.", name=name)


def to_groundingdino(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `state_dict` of transformers' GroundingDinoForObjectDetection gives -> groundingdino-py's.

    Tensors are shared, but for queries, keys and values, which are one matrix there.
    """
    found = defaultdict(list)
    for name, tensor in state.items():
        if not name.startswith(_BERT[0]):
            name = re.sub(r"\.[qkv]_proj\.(weight|bias)$", r".qkv.\1", name)
            name = re.sub(r"\.(query|key|value)\.(weight|bias)$", r".in_proj_\2", name)
        if not name.startswith(_UNUSED):
            found[_renamed(name)].append(tensor)
    return {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in found.items()}


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `to_groundingdino`, but for the norm of Swin that no forward pass reads."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("relative_position_index"):  # a table that transformers computes
            continue
        name = _renamed(name, back=True)
        if match := re.search(r"\.(qkv\.|in_proj_)(weight|bias)$", name):
            parts = ("q_proj", "k_proj", "v_proj") if match[1] == "qkv." else ("query", "key", "value")
            for part, third in zip(parts, tensor.chunk(3), strict=True):
                found[f"{name[: match.start()]}.{part}.{match[2]}"] = third
        else:
            found[name] = tensor
    return found


# --------------------------------------------------------------------------------------------------------------- model


def _meaning(function: Callable, **names: object) -> Callable:
    """The same function with some of the names it uses meaning something else."""
    return types.FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def _sine(position: Tensor, width: int) -> Tensor:
    """(..., n) positions -> (..., n * width): sines and cosines in turn, `width` of them for each position."""
    step = torch.arange(width, device=position.device) // 2 * 2 / width
    angle = 2 * math.pi * position[..., None] / 10000**step  # (..., n, width)
    return torch.stack([angle[..., ::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(-3)


def _library() -> types.SimpleNamespace:
    """The parts of groundingdino-py that are used here; what it warns about is of no use to those who run the app.

    Raises:
        UserError: where it cannot be imported, naming what is missing.
    """
    warnings.filterwarnings("ignore", module=r"groundingdino\.")
    warnings.filterwarnings("ignore", module=r"timm\.models")
    warnings.filterwarnings("ignore", message=r"torch\.meshgrid")
    try:
        from groundingdino.models.GroundingDINO import groundingdino, transformer
        from groundingdino.models.GroundingDINO.backbone import backbone, position_encoding, swin_transformer
        from groundingdino.util.misc import NestedTensor
    except ImportError as error:
        raise UserError(
            "The groundingdino backend needs the system library libGL (apt-get install libgl1). The transformers "
            "backend gives the same boxes without it."
            if "libGL" in str(error)
            else "The groundingdino backend needs something that is missing here ({reason}). The transformers backend "
            "gives the same boxes without it.",
            reason=str(error),
        ) from error
    return types.SimpleNamespace(
        groundingdino=groundingdino,
        transformer=transformer,
        backbone=backbone,
        position_encoding=position_encoding,
        swin_transformer=swin_transformer,
        NestedTensor=NestedTensor,
    )


def unpadded(pixels: Tensor) -> Any:
    """(B, 3, H, W) -> the library's pair of pixels and padding mask, for pictures of one size."""
    return _library().NestedTensor(pixels, torch.zeros_like(pixels[:, 0], dtype=torch.bool))


def _text_tower(config: Any) -> nn.Module:
    """BERT in the place of the library's BertModelWarper: every phrase attends to itself alone."""
    from transformers import BertModel

    class PhrasewiseBert(BertModel):
        def forward(
            self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, token_type_ids: Tensor | None = None
        ) -> dict:
            """`attention_mask` is (B, T, T), True where a token may look."""
            return super().forward(input_ids, attention_mask[:, None], token_type_ids, position_ids)

    return PhrasewiseBert(config)


def _refuse_others(config: Any) -> None:
    alike = (
        config.model_type == "grounding-dino"
        and config.backbone_config.model_type == "swin"
        and config.two_stage
        and config.embedding_init_target
        and config.encoder_ffn_dim == config.decoder_ffn_dim
        and config.encoder_attention_heads == config.decoder_attention_heads
        and config.num_feature_levels > 1
    )
    if not alike:
        raise UserError(
            "groundingdino-py has no code for this model: it knows Grounding DINO with a Swin backbone, and no "
            "MM-Grounding-DINO. Choose the transformers backend."
        )


def build(module: Any, tokenizer: Callable) -> Any:
    """groundingdino-py's model with the weights of transformers' `module`, most of them shared.

    Raises:
        UserError: where the library cannot be imported; for a model that it has no code for.
    """
    library, config = _library(), module.config
    _refuse_others(config)
    width, vision, temperature = config.d_model, config.backbone_config, config.positional_embedding_temperature
    swin = library.swin_transformer.SwinTransformer(
        pretrain_img_size=vision.image_size,
        patch_size=vision.patch_size,
        embed_dim=vision.embed_dim,
        depths=vision.depths,
        num_heads=vision.num_heads,
        window_size=vision.window_size,
        mlp_ratio=vision.mlp_ratio,
        qkv_bias=vision.qkv_bias,
        ape=vision.use_absolute_embeddings,
        out_indices=[index - 1 for index in vision.out_indices],
    )
    backbone = library.backbone.Joiner(
        swin, library.position_encoding.PositionEmbeddingSineHW(width // 2, temperature, temperature, normalize=True)
    )
    backbone.num_channels = [swin.num_features[index - 1] for index in vision.out_indices]
    transformer = library.transformer.Transformer(
        d_model=width,
        nhead=config.encoder_attention_heads,
        num_queries=config.num_queries,
        num_encoder_layers=config.encoder_layers,
        num_decoder_layers=config.decoder_layers,
        dim_feedforward=config.encoder_ffn_dim,
        activation=config.activation_function,
        return_intermediate_dec=True,
        num_feature_levels=config.num_feature_levels,
        enc_n_points=config.encoder_n_points,
        dec_n_points=config.decoder_n_points,
        learnable_tgt_init=True,
        two_stage_type="standard",
        embed_init_tgt=True,
        use_text_enhancer=True,
        use_fusion_layer=True,
        use_text_cross_attention=True,
    )
    encoder, decoder = transformer.encoder, transformer.decoder
    encoder.forward = types.MethodType(
        _meaning(type(encoder).forward, get_sine_pos_embed=lambda position, **_: _sine(position, width)), encoder
    )
    decoder.forward = types.MethodType(
        _meaning(  # y goes before x
            type(decoder).forward, gen_sineembed_for_position=lambda box: _sine(box[..., [1, 0, 2, 3]], width // 2)
        ),
        decoder,
    )
    text = types.SimpleNamespace(
        get_tokenlizer=lambda _: tokenizer,
        get_pretrained_language_model=lambda _: _text_tower(config.text_config),
    )
    maker = library.groundingdino.GroundingDINO
    model = maker.__new__(maker)
    _meaning(maker.__init__, get_tokenlizer=text, BertModelWarper=lambda bert_model: bert_model)(
        model,
        backbone,
        transformer,
        config.num_queries,
        iter_update=True,
        query_dim=4,
        num_feature_levels=config.num_feature_levels,
        nheads=config.encoder_attention_heads,
        two_stage_type="standard",
        dec_pred_bbox_embed_share=config.decoder_bbox_embed_share,
        two_stage_bbox_embed_share=config.two_stage_bbox_embed_share,
        two_stage_class_embed_share=False,
        max_text_len=config.max_text_len,
    )
    model.bert.pooler = None  # transformers' model has none, and the constructor asks for one
    missing, unexpected = model.load_state_dict(to_groundingdino(module.state_dict()), strict=False, assign=True)
    wrong = unexpected + [name for name in missing if not name.endswith("relative_position_index")]
    if wrong:
        raise UserError("The weights do not fit groundingdino-py's model: {wrong}.", wrong=", ".join(wrong[:4]))
    return model
