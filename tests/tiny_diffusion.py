"""A text-to-image model of the real classes, small and with random weights, for tests of the code around it."""

from pathlib import Path

import torch

from pipelines.training import tokenizer as words


def pipeline(width: int = 32, prediction_type: str = "v_prediction", seed: int = 0):
    """diffusers' StableDiffusionPipeline with 16x16 latents of 4 channels, and storybook's words."""
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
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    vae = AutoencoderTiny(
        encoder_block_out_channels=(16,) * 4,
        decoder_block_out_channels=(16,) * 4,
        num_encoder_blocks=(0, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 0),
    )
    schedule = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
    )
    parts = (vae, CLIPTextModel(text), words.pretrained(), unet, schedule)
    return StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)


def write(folder: Path, **settings) -> None:
    pipeline(**settings).save_pretrained(folder)
