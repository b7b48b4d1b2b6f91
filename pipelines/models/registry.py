"""Every model the app can use, as plain data. The README's table and the menus of the tabs are made from this."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BUNDLED = Path(__file__).parents[2] / "assets" / "models"

Family = Literal["openclip", "vit", "mae", "grounding_dino", "stable_diffusion", "autoencoder"]


@dataclass(frozen=True)
class ModelSpec:
    """One model. `source` is a folder in `assets/models/` for the bundled tier and a hub id for the other."""

    name: str  # in menus, in the API, on the command line
    tier: Literal["bundled", "hub", "converted"]  # converted: made on this computer, offered once its folder is there
    family: Family  # which library class opens it: open_clip, a transformers ViT, ViTMAE or Grounding DINO, diffusers
    source: str
    title: str
    licence: str
    megabytes: int  # to download, or on disk when bundled
    paper: str
    seen: str  # what it was trained on, said under every picture it makes
    weights: str = "model.safetensors"
    notice: str = ""  # a condition of use the menu must show
    teacher: bool = False  # comes with DetailCLIP's teacher, head and decoder
    files: tuple[str, ...] = ("*.json", "*.txt", "*.safetensors")  # what is fetched of a repository; never a pickle
    previewer: str = ""  # another model, a small decoder of the same latents, for pictures on the way
    detector: str = ""  # the model that finds things in what this one draws
    scorer: str = ""  # the image-text model that gives a second opinion
    # Of the competition between words in Attend-and-Excite. The authors' 100 is for start tokens that take nearly all.
    sharpness: float = 100.0
    # How far guided predictions are brought back to the spread of unguided ones, 0 to 1; for models of velocities
    # (Lin et al. 2024, https://arxiv.org/abs/2305.08891, section 3.4).
    guidance_rescale: float = 0.0
    # What a drawing is begun with, unless its visitor says otherwise.
    steps: int = 20
    guidance: float = 7.5
    sampler: str = "ddim"  # one of pipelines.diffusion.pipeline.SAMPLERS


# One set of weights of a diffusers repository, which often has them in three precisions and as one big file besides.
DIFFUSERS = (
    "model_index.json",
    *(f"{part}/*.json" for part in ("scheduler", "text_encoder", "tokenizer", "unet", "vae", "feature_extractor")),
    "safety_checker/config.json",
    "tokenizer/*.txt",
    "text_encoder/model.safetensors",
    "safety_checker/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)
STORYBOOK = "the storybook world's drawn scenes, and nothing else"

_SPECS = (
    ModelSpec(
        "storybook-detailclip",
        "bundled",
        "openclip",
        "storybook-detailclip",
        "Storybook DetailCLIP, ViT 192 wide, 6 layers, patch 8 at 128 px, with teacher, head and decoder",
        "Apache-2.0",
        37,
        "https://arxiv.org/abs/2409.06809",
        STORYBOOK,
        "open_clip_model.safetensors",
        teacher=True,
        scorer="storybook-clip-b",
    ),
    ModelSpec(
        "storybook-clip-b",
        "bundled",
        "openclip",
        "storybook-clip-b",
        "Storybook CLIP B, ViT 224 wide, 6 layers, patch 16 at 128 px: another size and seed, for second opinions",
        "Apache-2.0",
        9,
        "https://arxiv.org/abs/2103.00020",
        STORYBOOK,
        "open_clip_model.safetensors",
        scorer="storybook-detailclip",
    ),
    ModelSpec(
        "storybook-grounding-dino",
        "bundled",
        "grounding_dino",
        "storybook-grounding-dino",
        "Storybook Grounding DINO, Swin 48 wide, 24 queries, at 128 px",
        "Apache-2.0",
        8,
        "https://arxiv.org/abs/2303.05499",
        STORYBOOK,
    ),
    ModelSpec(
        "storybook-diffusion",
        "bundled",
        "stable_diffusion",
        "storybook-diffusion",
        "Storybook Diffusion, UNet 128 and 192 wide, latents of 16x16, at 128 px",
        "Apache-2.0",
        26,
        "https://arxiv.org/abs/2112.10752",
        STORYBOOK,
        "unet/diffusion_pytorch_model.safetensors.index.json",
        detector="storybook-grounding-dino",
        scorer="storybook-clip-b",
        sharpness=20.0,
        guidance_rescale=1.0,
        guidance=3.0,
        sampler="ddpm",
    ),
    ModelSpec(
        "storybook-autoencoder",
        "bundled",
        "autoencoder",
        "storybook-autoencoder",
        "Storybook Autoencoder, 64 wide, pictures of 128 px to latents of 16x16 with 6 channels and back",
        "Apache-2.0",
        3,
        "https://arxiv.org/abs/2112.10752",
        STORYBOOK,
        "diffusion_pytorch_model.safetensors",
    ),
    ModelSpec(
        "detailclip-vit-b-16",
        "converted",
        "openclip",
        "detailclip-vit-b-16",
        "The authors' DetailCLIP ViT-B/16 at 224 px, converted by pipelines.training.convert_detailclip",
        "none stated",
        640,
        "https://arxiv.org/abs/2409.06809",
        "fifteen million captioned photographs of YFCC",
        "open_clip_model.safetensors",
        "Its authors state no licence.",
        teacher=True,
    ),
    ModelSpec(
        "openclip-vit-b-16",
        "hub",
        "openclip",
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "OpenCLIP ViT-B/16 at 224 px",
        "MIT",
        599,
        "https://arxiv.org/abs/2212.07143",
        "two billion captioned pictures from the web",
        "open_clip_model.safetensors",
        scorer="openclip-vit-b-32",
    ),
    ModelSpec(
        "openclip-vit-b-32",
        "hub",
        "openclip",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "OpenCLIP ViT-B/32 at 224 px",
        "MIT",
        605,
        "https://arxiv.org/abs/2212.07143",
        "two billion captioned pictures from the web",
        "open_clip_model.safetensors",
        scorer="openclip-vit-b-16",
    ),
    ModelSpec(
        "dino-vits16",
        "hub",
        "vit",
        "facebook/dino-vits16",
        "DINO ViT-S/16 at 224 px",
        "Apache-2.0",
        87,
        "https://arxiv.org/abs/2104.14294",
        "1.3 million ImageNet photographs without labels",
    ),
    ModelSpec(
        "dinov2-small",
        "hub",
        "vit",
        "facebook/dinov2-small",
        "DINOv2 ViT-S/14 at 224 px",
        "Apache-2.0",
        88,
        "https://arxiv.org/abs/2304.07193",
        "142 million curated photographs without labels",
    ),
    ModelSpec(
        "dinov2-registers-small",
        "hub",
        "vit",
        "facebook/dinov2-with-registers-small",
        "DINOv2 with registers ViT-S/14 at 224 px",
        "Apache-2.0",
        88,
        "https://arxiv.org/abs/2309.16588",
        "142 million curated photographs without labels",
    ),
    ModelSpec(
        "mae-base",
        "hub",
        "mae",
        "facebook/vit-mae-base",
        "MAE ViT-B/16 at 224 px",
        "CC-BY-NC-4.0",
        448,
        "https://arxiv.org/abs/2111.06377",
        "1.3 million ImageNet photographs without labels",
        notice="Its authors' repository allows non-commercial use only.",
    ),
    ModelSpec(
        "grounding-dino-tiny",
        "hub",
        "grounding_dino",
        "IDEA-Research/grounding-dino-tiny",
        "Grounding DINO, Swin-T, 900 queries, at 800 px",
        "Apache-2.0",
        690,
        "https://arxiv.org/abs/2303.05499",
        "boxes and phrases of Objects365, GoldG and captioned pictures",
    ),
    ModelSpec(
        "grounding-dino-base",
        "hub",
        "grounding_dino",
        "IDEA-Research/grounding-dino-base",
        "Grounding DINO, Swin-B, 900 queries, at 800 px",
        "Apache-2.0",
        934,
        "https://arxiv.org/abs/2303.05499",
        "boxes and phrases of seven detection and grounding data sets, COCO among them",
    ),
    ModelSpec(
        "mm-grounding-dino-tiny",
        "hub",
        "grounding_dino",
        "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
        "MM-Grounding-DINO, Swin-T, 900 queries, at 800 px",
        "Apache-2.0",
        692,
        "https://arxiv.org/abs/2401.02361",
        "boxes and phrases of Objects365, GoldG and V3Det",
    ),
    ModelSpec(
        "stable-diffusion-1.5",
        "hub",
        "stable_diffusion",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "Stable Diffusion 1.5, at 512 px",
        "CreativeML OpenRAIL-M",
        5500,
        "https://arxiv.org/abs/2112.10752",
        "captioned pictures from the web (LAION)",
        "unet/diffusion_pytorch_model.safetensors",
        "Its licence forbids harmful uses.",
        files=DIFFUSERS,
        previewer="taesd",
        detector="grounding-dino-tiny",
        scorer="openclip-vit-b-16",
    ),
    ModelSpec(
        "sd-turbo",
        "hub",
        "stable_diffusion",
        "stabilityai/sd-turbo",
        "SD-Turbo, at 512 px, made for 1 to 4 steps without guidance",
        "Stability AI Community",
        5200,
        "https://arxiv.org/abs/2311.17042",
        "captioned pictures from the web (LAION), and the answers of Stable Diffusion 2.1",
        "unet/diffusion_pytorch_model.safetensors",
        "Commercial use has conditions.",
        files=DIFFUSERS,
        previewer="taesd",
        detector="grounding-dino-tiny",
        scorer="openclip-vit-b-16",
        steps=4,
        guidance=1.0,
    ),
    ModelSpec(
        "taesd",
        "hub",
        "autoencoder",
        "madebyollin/taesd",
        "TAESD, a small decoder of Stable Diffusion's latents, for pictures on the way",
        "MIT",
        10,
        "https://arxiv.org/abs/2112.10752",
        "the latents of Stable Diffusion 1's autoencoder",
        "diffusion_pytorch_model.safetensors",
    ),
)

MODELS = {spec.name: spec for spec in _SPECS}
