"""Train `storybook-diffusion`: latent diffusion (Rombach et al. 2022, https://arxiv.org/abs/2112.10752) on drawn
scenes, in the parts of diffusers' StableDiffusionPipeline.

    python -m pipelines.training.autoencoder --cpu
    python -m pipelines.training.diffusion --cpu
    python -m pipelines.training.diffusion --export assets/models/storybook-diffusion

The denoiser predicts velocities (Salimans & Ho 2022, https://arxiv.org/abs/2202.00512) on a cosine schedule, nearly
clean pictures counting less (after Hang et al. 2023, https://arxiv.org/abs/2303.09556) and objects more than what is
behind them: most of the error is where on the grass something stands, which nobody can know. Its text encoder begins
as that of `storybook-detailclip` and learns along; in Stable Diffusion it is CLIP's and stays as it is. Latents are
made once and kept beside the checkpoint; captions are drawn anew for every picture that is seen again.
"""

import argparse
import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pipelines.models.registry import BUNDLED
from pipelines.training import autoencoder
from pipelines.training import tokenizer as words
from pipelines.training.loop import (
    Muon,
    add_arguments,
    add_precision_argument,
    descend,
    load_checkpoint,
    mixed,
    precision,
    seed_everything,
    trained,
    write_json,
)
from pipelines.training.pairs import SEEDS_PER_RUN
from pipelines.world import storybook

UNET = {
    "sample_size": storybook.SIZE // 8,
    "in_channels": autoencoder.MODEL["latent_channels"],
    "out_channels": autoencoder.MODEL["latent_channels"],
    "block_out_channels": (128, 192),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "cross_attention_dim": 128,
    "attention_head_dim": 4,  # heads: https://github.com/huggingface/diffusers/issues/2011
}
TEXT = {
    "vocab_size": len(words.vocabulary()),
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": words.CONTEXT_LENGTH,
    "hidden_act": "gelu",
    "bos_token_id": words.vocabulary().index("[START]"),
    "eos_token_id": words.vocabulary().index("[END]"),
    "pad_token_id": words.vocabulary().index("[PAD]"),
}
SCHEDULE = {
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "steps_offset": 1,  # as in Stable Diffusion; trailing times do without
    "timestep_spacing": "trailing",
}
COUNTS = (0.75, 0.25)  # shares of pictures with 1 and 2 objects
PROMISED = 0.6  # share of the captions of one object that name another one too, which the picture does not show
EMPTY = 0.1  # share of captions left out, for guidance (Ho & Salimans 2022, https://arxiv.org/abs/2207.12598)
CLEAN = 5.0  # signal to noise from which a time counts less, in proportion
BEHIND, OBJECT = 0.5, 2.0  # weights of places without and with an object
COLOURS_TOLD = 0.6  # share of captions that tell the colours of things
AVERAGE = 0.999  # how much of the averaged weights stays after a step
CAPTIONS = 4  # drawn for each picture


class Denoiser(nn.Module):
    """UNet and text encoder, which learn together."""

    def __init__(self, unet: dict, text: dict):
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.unet: Any = UNet2DConditionModel(**unet)
        self.text_encoder: Any = CLIPTextModel(CLIPTextConfig(**text))

    def forward(self, latents: Tensor, time: Tensor, text: Tensor) -> Tensor:
        """(B, C, H, W) noisy latents, (B) of 1000 times, (B, T) token ids -> (B, C, H, W) velocities."""
        states = self.text_encoder(text).last_hidden_state
        return self.unet(latents, time, encoder_hidden_states=states).sample.float()


def open_clip_text(folder: Path) -> dict[str, Tensor]:
    """The text tower that open_clip saved in `folder`, under the names of transformers' CLIPTextModel."""
    from safetensors.torch import load_file

    renamed = {}
    for name, tensor in load_file(folder / "open_clip_model.safetensors").items():
        tensor = tensor.float()
        if name == "token_embedding.weight":
            renamed["embeddings.token_embedding.weight"] = tensor
        elif name == "positional_embedding":
            renamed["embeddings.position_embedding.weight"] = tensor
        elif name.startswith("ln_final"):
            renamed[name.replace("ln_final", "final_layer_norm")] = tensor
        elif name.startswith("transformer.resblocks."):
            layer, part = name.removeprefix("transformer.resblocks.").split(".", 1)
            layer = f"encoder.layers.{layer}."
            if part.startswith("attn.in_proj_"):
                for which, piece in zip("qkv", tensor.chunk(3), strict=True):
                    renamed[f"{layer}self_attn.{which}_proj.{part.removeprefix('attn.in_proj_')}"] = piece
            else:
                for old, new in (
                    ("attn", "self_attn"),
                    ("ln_", "layer_norm"),
                    ("mlp.c_fc", "mlp.fc1"),
                    ("mlp.c_proj", "mlp.fc2"),
                ):
                    part = part.replace(old, new, 1) if part.startswith(old) else part
                renamed[layer + part] = tensor
    return renamed


# --------------------------------------------------------------------------------------------------------------- data


def named(scene: storybook.Scene, rng: np.random.Generator, promised: float) -> Sequence[storybook.SceneObject]:
    """What a caption of the scene names: its objects, and beside a single one at times another that is not there."""
    if len(scene.objects) > 1 or rng.random() >= promised:
        return scene.objects
    (shown,) = scene.objects
    noun = str(rng.choice([noun for noun in storybook.NOUNS if noun != shown.noun]))
    colour = str(rng.choice(list(storybook.COLOURS))) if noun in storybook.THINGS else None
    return shown, dataclasses.replace(shown, noun=noun, colour=colour)


class Pictures(Dataset):
    """Scenes and CAPTIONS captions of each; item i depends on the seed and on i alone."""

    def __init__(self, seed: int, length: int, counts: Sequence[float] = COUNTS, promised: float = PROMISED):
        self.seed, self.length, self.counts, self.promised = seed, length, counts, promised
        self.tokenizer = words.build()
        self.tokenizer.enable_padding(length=words.CONTEXT_LENGTH)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """(3, H, W) in [-1, 1], (CAPTIONS, T) token ids, (H/8, W/8) share of each place that is object."""
        rng = np.random.default_rng((self.seed, index))
        count = int(rng.choice(len(self.counts), p=self.counts)) + 1
        scene = storybook.scene(storybook.TRAIN[self.seed * SEEDS_PER_RUN + index], count)
        captions = [
            storybook.random_caption(named(scene, rng, self.promised), scene.background, rng, COLOURS_TOLD)
            for _ in range(CAPTIONS)
        ]
        picture = torch.from_numpy(scene.picture).permute(2, 0, 1).float() / 127.5 - 1
        tokens = torch.tensor([encoded.ids for encoded in self.tokenizer.encode_batch(captions)])
        return picture, tokens, torch.tensor(storybook.object_share(scene, storybook.SIZE // 8))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latents:
    """N pictures as the denoiser sees them."""

    latents: Tensor  # (N, C, H, W) bfloat16
    captions: Tensor  # (N, CAPTIONS, T) int16 token ids
    objects: Tensor  # (N, H, W) bfloat16, the share of each place that is object

    @staticmethod
    @torch.inference_mode()
    def make(
        vae: Any, pictures: Pictures, workers: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> "Latents":
        vae = vae.to(device, memory_format=torch.channels_last)
        latents, captions, objects = [], [], []
        with mixed(device, dtype):
            for batch, text, shares in DataLoader(pictures, 64, num_workers=workers):
                batch = batch.to(device, memory_format=torch.channels_last)
                latents.append(vae.encode(batch).latents.bfloat16().cpu())
                captions.append(text.short())
                objects.append(shares.bfloat16())
        return Latents(latents=torch.cat(latents), captions=torch.cat(captions), objects=torch.cat(objects))

    def batch(self, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) float32, (B, T) token ids of one caption each, some of them empty, and (B, H, W) objects."""
        chosen = torch.randint(len(self.latents), (size,), generator=rng)
        text = self.captions[chosen, torch.randint(self.captions.shape[1], (size,), generator=rng)].long()
        empty = torch.rand(size, generator=rng) < EMPTY
        nothing = torch.zeros_like(text[0])
        nothing[:2] = torch.tensor([TEXT["bos_token_id"], TEXT["eos_token_id"]])
        return self.latents[chosen].float(), torch.where(empty[:, None], nothing, text), self.objects[chosen].float()


def latents_of(arguments: argparse.Namespace, vae: Any, device: torch.device) -> Latents:
    """From the file beside the checkpoint where it fits the encoder, the number and shares asked for, else made."""
    path = Path(arguments.checkpoint) / "latents.pt"
    made_for = [
        sum(p.double().abs().sum().item() for p in vae.encoder.parameters()),
        arguments.pictures,
        arguments.seed,
        *arguments.counts,
        arguments.promised,
    ]
    kept = load_checkpoint(path)
    if kept is None or kept["made_for"] != made_for:
        pictures = Pictures(arguments.seed, arguments.pictures, arguments.counts, arguments.promised)
        made = Latents.make(vae, pictures, arguments.workers, device, precision(device, arguments.precision))
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {"made_for": made_for, **vars(made)}
        torch.save(kept, path)
    return Latents(latents=kept["latents"], captions=kept["captions"], objects=kept["objects"])


# --------------------------------------------------------------------------------------------------------------- loss


def loss(
    model: nn.Module, clean: Tensor, text: Tensor, objects: Tensor, scheduler: Any, rng: torch.Generator
) -> dict[str, Tensor]:
    """Squared error of the velocity at a random time, weighted by place and by min(1, CLEAN / SNR)."""
    time = torch.randint(scheduler.config.num_train_timesteps, (len(clean),), generator=rng).to(clean.device)
    noise = torch.randn(clean.shape, generator=rng).to(clean.device)
    predicted = model(scheduler.add_noise(clean, noise, time), time, text)
    places = BEHIND + (OBJECT - BEHIND) * objects
    missed = (predicted - scheduler.get_velocity(clean, noise, time)).square().mean(1)
    error = (missed * places / places.mean()).mean((1, 2))
    signal = scheduler.alphas_cumprod.to(clean.device)[time]
    weight = (CLEAN * (1 - signal) / signal).clamp(max=1)
    early = time >= scheduler.config.num_train_timesteps // 2
    return {
        "total": (weight * error).mean(),
        "early": error[early].sum() / early.sum().clamp(min=1),
        "late": error[~early].sum() / (~early).sum().clamp(min=1),
    }


# ----------------------------------------------------------------------------------------------------------- training


def scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(**SCHEDULE)


def train(arguments: argparse.Namespace, vae: Any, unet: dict = UNET, text: dict = TEXT) -> None:
    """Train until `arguments.steps`, from the checkpoint if there is one.

    Raises:
        FloatingPointError: when the loss is no number any more; the last checkpoint stays.
    """
    seed_everything(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    data = latents_of(arguments, vae, device)
    model = Denoiser(unet, text).to(device).to(memory_format=torch.channels_last).train()
    if arguments.text:
        model.text_encoder.load_state_dict(open_clip_text(arguments.text))
    if device.type == "cpu":  # the fused attention's gradient is slow at this size: 2.4 s a step instead of 2.0
        from diffusers.models.attention_processor import AttnProcessor

        model.unet.set_attn_processor(AttnProcessor())
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = Muon(model, arguments.lr)
    noise, dtype = scheduler(), precision(device, arguments.precision)

    def losses(step: int) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(arguments.seed * 10**6 + step)
        clean, tokens, objects = data.batch(arguments.batch, rng)
        clean = clean.to(device, memory_format=torch.channels_last)
        with mixed(device, dtype):
            return loss(model, clean, tokens.to(device), objects.to(device), noise, rng)

    def follow(step: int) -> None:
        stays = min(AVERAGE, step / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - stays)

    settings = {"unet": unet, "text": text}
    descend(model, optimizer, losses, arguments, settings, extra={"average": average}, after_step=follow)


def pipeline(state: dict, vae: Any) -> Any:
    """The checkpoint's averaged weights as diffusers' StableDiffusionPipeline."""
    from diffusers import StableDiffusionPipeline

    model = Denoiser(state["settings"]["unet"], state["settings"]["text"])
    model.load_state_dict(state["average"])
    return StableDiffusionPipeline(
        vae, model.text_encoder, words.pretrained(), model.unet, scheduler(), None, None, requires_safety_checker=False
    )


def export(arguments: argparse.Namespace, folder: Path) -> None:
    """Write a folder that plain diffusers opens: weights in float16, in files of at most 9 MB, and training curves.

    Raises:
        FileNotFoundError: when there is no checkpoint.
    """
    state = trained(Path(arguments.checkpoint))
    vae = autoencoder_of(arguments.autoencoder)
    pipe = pipeline(state, vae)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.half()
    pipe.save_pretrained(folder, max_shard_size="9MB")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    text = folder / "text_encoder" / "config.json"  # what to compute in: transformers takes the file's precision
    write_json(text, json.loads(text.read_text(encoding="utf-8")) | {"dtype": "float32"})
    write_json(folder / "training_log.json", {"steps": state["step"], "records": state["records"]})


def autoencoder_of(folder: Path) -> Any:
    state = load_checkpoint(folder / "last.pt")
    if state is None:
        raise FileNotFoundError(f"No autoencoder in {folder}; run python -m pipelines.training.autoencoder first.")
    return autoencoder.folded(state).requires_grad_(False)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_precision_argument(parser)
    add_arguments(parser, ".checkpoints/diffusion", steps=9600, decay=2000, seed=4)
    parser.set_defaults(lr=1.5e-3, batch=48)
    parser.add_argument("--clip", type=float, default=1.0, help="longest gradient")
    parser.add_argument("--pictures", type=int, default=32_000, help="different pictures to learn from")
    parser.add_argument(
        "--counts", type=float, nargs="+", default=COUNTS, help="shares of pictures with 1, 2 and more objects"
    )
    parser.add_argument(
        "--promised", type=float, default=PROMISED, help="share of captions of one object that name another one too"
    )
    parser.add_argument("--autoencoder", type=Path, default=Path(".checkpoints/autoencoder"), help="its checkpoint")
    parser.add_argument(
        "--text", type=Path, default=BUNDLED / "storybook-detailclip", help="OpenCLIP folder of the first text encoder"
    )
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if arguments.export:
        export(arguments, arguments.export)
    else:
        train(arguments, autoencoder_of(arguments.autoencoder))


if __name__ == "__main__":
    main()
