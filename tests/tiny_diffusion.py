"""A text-to-image model of the real classes, small and with random weights, for tests of the code around it."""

import torch

from pipelines.training import tokenizer as words

CHANNELS = {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 32}
TINY = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}
DECODER = {
    "encoder_block_out_channels": (16,) * 4,
    "decoder_block_out_channels": (16,) * 4,
    "num_encoder_blocks": (0, 1, 1, 1),
    "num_decoder_blocks": (1, 1, 1, 0),
}
SCHEDULES = {  # storybook's, and Stable Diffusion 1.5's
    "v_prediction": {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing", "steps_offset": 1},
    "epsilon": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1},
}


def pipeline(prediction_type: str = "v_prediction", seed: int = 0, unet: dict | None = None, vae=None):
    """diffusers' StableDiffusionPipeline with 16x16 latents of 4 channels, and storybook's words.

    Args:
        unet: in place of the tiny one's settings.
        vae: in place of the tiny autoencoder.
    """
    from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    vocabulary = words.vocabulary()
    text = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=words.CONTEXT_LENGTH,
        eos_token_id=vocabulary.index("[END]"),
        bos_token_id=vocabulary.index("[START]"),
        pad_token_id=0,
    )
    denoiser = UNet2DConditionModel(**CHANNELS, **(unet or TINY))
    schedule = DDIMScheduler(prediction_type=prediction_type, clip_sample=False, **SCHEDULES[prediction_type])
    parts = (vae or AutoencoderTiny(**DECODER), CLIPTextModel(text), words.pretrained(), denoiser, schedule)
    return StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)
