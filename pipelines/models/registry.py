"""Every model the app can use, as plain data. The README's table and the menus of the tabs are made from this."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BUNDLED = Path(__file__).parents[2] / "assets" / "models"

Family = Literal["openclip", "vit", "mae", "grounding_dino", "stable_diffusion", "autoencoder", "classifier", "reader"]
Sampler = Literal["ddpm", "ddim", "euler", "dpm++"]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model. `source` is a folder in `assets/models/` for the bundled tier and a hub id for the other."""

    name: str  # in menus, in the API, on the command line
    tier: Literal["bundled", "hub", "converted"]  # converted: made on this computer, offered once its folder is there
    family: Family  # what opens it: open_clip, a transformers ViT, ViTMAE or Grounding DINO, diffusers, timm
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
    sampler: Sampler = "ddim"


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
        name="storybook-detailclip",
        tier="bundled",
        family="openclip",
        source="storybook-detailclip",
        title="Storybook DetailCLIP, ViT 192 wide, 6 layers, patch 8 at 128 px, with teacher, head and decoder",
        licence="Apache-2.0",
        megabytes=37,
        paper="https://arxiv.org/abs/2409.06809",
        seen=STORYBOOK,
        weights="open_clip_model.safetensors",
        teacher=True,
        scorer="storybook-clip-b",
    ),
    ModelSpec(
        name="storybook-clip-b",
        tier="bundled",
        family="openclip",
        source="storybook-clip-b",
        title="Storybook CLIP B, ViT 224 wide, 6 layers, patch 16 at 128 px: another size and seed, for second "
        "opinions",
        licence="Apache-2.0",
        megabytes=9,
        paper="https://arxiv.org/abs/2103.00020",
        seen=STORYBOOK,
        weights="open_clip_model.safetensors",
        scorer="storybook-detailclip",
    ),
    ModelSpec(
        name="storybook-grounding-dino",
        tier="bundled",
        family="grounding_dino",
        source="storybook-grounding-dino",
        title="Storybook Grounding DINO, Swin 48 wide, 24 queries, at 128 px",
        licence="Apache-2.0",
        megabytes=8,
        paper="https://arxiv.org/abs/2303.05499",
        seen=STORYBOOK,
    ),
    ModelSpec(
        name="storybook-diffusion",
        tier="bundled",
        family="stable_diffusion",
        source="storybook-diffusion",
        title="Storybook Diffusion, UNet 128 and 192 wide, latents of 16x16, at 128 px",
        licence="Apache-2.0",
        megabytes=26,
        paper="https://arxiv.org/abs/2112.10752",
        seen=STORYBOOK,
        weights="unet/diffusion_pytorch_model.safetensors.index.json",
        detector="storybook-grounding-dino",
        scorer="storybook-clip-b",
        sharpness=20.0,
        guidance_rescale=1.0,
        guidance=3.0,
        sampler="ddpm",
    ),
    ModelSpec(
        name="storybook-autoencoder",
        tier="bundled",
        family="autoencoder",
        source="storybook-autoencoder",
        title="Storybook Autoencoder, 64 wide, pictures of 128 px to latents of 16x16 with 6 channels and back",
        licence="Apache-2.0",
        megabytes=3,
        paper="https://arxiv.org/abs/2112.10752",
        seen=STORYBOOK,
        weights="diffusion_pytorch_model.safetensors",
    ),
    *(
        ModelSpec(
            name=f"storybook-reader-{kind}",
            tier="bundled",
            family="reader",
            source=f"storybook-reader-{kind}",
            title=f"Storybook reader {title}, ViT 96 wide, 5 layers, patch 8 at 64 px",
            licence="Apache-2.0",
            megabytes=megabytes,
            paper=f"https://arxiv.org/abs/{paper}",
            seen=STORYBOOK,
            weights=weights,
        )
        for kind, title, megabytes, paper, weights in (
            ("clip", "CLIP", 2, "2103.00020", "open_clip_model.safetensors"),
            ("simvlm", "SimVLM", 2, "2108.10904", "model.safetensors"),
            ("coca", "CoCa", 3, "2205.01917", "open_clip_model.safetensors"),
        )
    ),
    ModelSpec(
        name="efficientnet-lite0",
        tier="bundled",
        family="classifier",
        source="efficientnet-lite0",
        title="EfficientNet-Lite0 at 224 px, which names 1,000 kinds of things in photographs",
        licence="Apache-2.0",
        megabytes=10,
        paper="https://arxiv.org/abs/1905.11946",
        seen="1.3 million ImageNet photographs, each with one of 1,000 names",
    ),
    ModelSpec(
        name="detailclip-vit-b-16",
        tier="converted",
        family="openclip",
        source="detailclip-vit-b-16",
        title="The authors' DetailCLIP ViT-B/16 at 224 px, converted by pipelines.training.convert_detailclip",
        licence="none stated",
        megabytes=640,
        paper="https://arxiv.org/abs/2409.06809",
        seen="fifteen million captioned photographs of YFCC",
        weights="open_clip_model.safetensors",
        notice="Its authors state no licence.",
        teacher=True,
    ),
    ModelSpec(
        name="openclip-vit-b-16",
        tier="hub",
        family="openclip",
        source="laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        title="OpenCLIP ViT-B/16 at 224 px",
        licence="MIT",
        megabytes=599,
        paper="https://arxiv.org/abs/2212.07143",
        seen="two billion captioned pictures from the web",
        weights="open_clip_model.safetensors",
        scorer="openclip-vit-b-32",
    ),
    ModelSpec(
        name="openclip-vit-b-32",
        tier="hub",
        family="openclip",
        source="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        title="OpenCLIP ViT-B/32 at 224 px",
        licence="MIT",
        megabytes=605,
        paper="https://arxiv.org/abs/2212.07143",
        seen="two billion captioned pictures from the web",
        weights="open_clip_model.safetensors",
        scorer="openclip-vit-b-16",
    ),
    ModelSpec(
        name="dino-vits16",
        tier="hub",
        family="vit",
        source="facebook/dino-vits16",
        title="DINO ViT-S/16 at 224 px",
        licence="Apache-2.0",
        megabytes=87,
        paper="https://arxiv.org/abs/2104.14294",
        seen="1.3 million ImageNet photographs without labels",
    ),
    ModelSpec(
        name="dinov2-small",
        tier="hub",
        family="vit",
        source="facebook/dinov2-small",
        title="DINOv2 ViT-S/14 at 224 px",
        licence="Apache-2.0",
        megabytes=88,
        paper="https://arxiv.org/abs/2304.07193",
        seen="142 million curated photographs without labels",
    ),
    ModelSpec(
        name="dinov2-registers-small",
        tier="hub",
        family="vit",
        source="facebook/dinov2-with-registers-small",
        title="DINOv2 with registers ViT-S/14 at 224 px",
        licence="Apache-2.0",
        megabytes=88,
        paper="https://arxiv.org/abs/2309.16588",
        seen="142 million curated photographs without labels",
    ),
    ModelSpec(
        name="mae-base",
        tier="hub",
        family="mae",
        source="facebook/vit-mae-base",
        title="MAE ViT-B/16 at 224 px",
        licence="CC-BY-NC-4.0",
        megabytes=448,
        paper="https://arxiv.org/abs/2111.06377",
        seen="1.3 million ImageNet photographs without labels",
        notice="Its authors' repository allows non-commercial use only.",
    ),
    ModelSpec(
        name="grounding-dino-tiny",
        tier="hub",
        family="grounding_dino",
        source="IDEA-Research/grounding-dino-tiny",
        title="Grounding DINO, Swin-T, 900 queries, at 800 px",
        licence="Apache-2.0",
        megabytes=690,
        paper="https://arxiv.org/abs/2303.05499",
        seen="boxes and phrases of Objects365, GoldG and captioned pictures",
    ),
    ModelSpec(
        name="grounding-dino-base",
        tier="hub",
        family="grounding_dino",
        source="IDEA-Research/grounding-dino-base",
        title="Grounding DINO, Swin-B, 900 queries, at 800 px",
        licence="Apache-2.0",
        megabytes=934,
        paper="https://arxiv.org/abs/2303.05499",
        seen="boxes and phrases of seven detection and grounding data sets, COCO among them",
    ),
    ModelSpec(
        name="mm-grounding-dino-tiny",
        tier="hub",
        family="grounding_dino",
        source="openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
        title="MM-Grounding-DINO, Swin-T, 900 queries, at 800 px",
        licence="Apache-2.0",
        megabytes=692,
        paper="https://arxiv.org/abs/2401.02361",
        seen="boxes and phrases of Objects365, GoldG and V3Det",
    ),
    ModelSpec(
        name="stable-diffusion-1.5",
        tier="hub",
        family="stable_diffusion",
        source="stable-diffusion-v1-5/stable-diffusion-v1-5",
        title="Stable Diffusion 1.5, at 512 px",
        licence="CreativeML OpenRAIL-M",
        megabytes=5500,
        paper="https://arxiv.org/abs/2112.10752",
        seen="captioned pictures from the web (LAION)",
        weights="unet/diffusion_pytorch_model.safetensors",
        notice="Its licence forbids harmful uses.",
        files=DIFFUSERS,
        previewer="taesd",
        detector="grounding-dino-tiny",
        scorer="openclip-vit-b-16",
    ),
    ModelSpec(
        name="sd-turbo",
        tier="hub",
        family="stable_diffusion",
        source="stabilityai/sd-turbo",
        title="SD-Turbo, at 512 px, made for 1 to 4 steps without guidance",
        licence="Stability AI Community",
        megabytes=5200,
        paper="https://arxiv.org/abs/2311.17042",
        seen="captioned pictures from the web (LAION), and the answers of Stable Diffusion 2.1",
        weights="unet/diffusion_pytorch_model.safetensors",
        notice="Commercial use has conditions.",
        files=DIFFUSERS,
        previewer="taesd",
        detector="grounding-dino-tiny",
        scorer="openclip-vit-b-16",
        steps=4,
        guidance=1.0,
    ),
    ModelSpec(
        name="taesd",
        tier="hub",
        family="autoencoder",
        source="madebyollin/taesd",
        title="TAESD, a small decoder of Stable Diffusion's latents, for pictures on the way",
        licence="MIT",
        megabytes=10,
        paper="https://arxiv.org/abs/2112.10752",
        seen="the latents of Stable Diffusion 1's autoencoder",
        weights="diffusion_pytorch_model.safetensors",
    ),
)

MODELS = {spec.name: spec for spec in _SPECS}
