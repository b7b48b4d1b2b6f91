"""One path for both tiers: bundled folders, the hub's cache, and clear messages when a model cannot be had."""

import copy
import json
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from demos import token_removal as token_removal_tab
from demos.ui import pictures
from pipelines.errors import UserError
from pipelines.models import encoders, hub, loading
from pipelines.models.hub import ModelUnavailable
from pipelines.models.loading import Cache, load
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.models.text_to_image import LatentDecoder, TextToImage
from pipelines.reconstruction import pipeline as reconstruction
from pipelines.reconstruction.settings import Settings as Hiding
from pipelines.token_removal import pipeline as token_removal
from pipelines.token_removal.settings import Settings
from pipelines.world import storybook
from tests import tiny_diffusion

REVISION = "0" * 40
DETAIL = BUNDLED / "storybook-detailclip"
VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 224,
}


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache, offline. `hub_cache(name)` makes the folder in which that model's files would lie."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(loading, "_CACHE", Cache(1000, loading.open_model))

    def folder(name: str):
        repository = tmp_path / f"models--{MODELS[name].source.replace('/', '--')}"
        snapshot = repository / "snapshots" / REVISION
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(REVISION, encoding="utf-8")
        return snapshot

    return folder


def write_transformers(model, folder):
    torch.manual_seed(0)
    model.save_pretrained(folder)
    ViTImageProcessor(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]).save_pretrained(folder)


def write_openclip(folder):
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    save_file(open_clip.model.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}}), encoding="utf-8"
    )


WRITERS = {
    "dino-vits16": lambda folder: write_transformers(ViTModel(ViTConfig(**VIT, patch_size=16)), folder),
    "dinov2-small": lambda folder: write_transformers(Dinov2Model(Dinov2Config(**VIT, patch_size=14)), folder),
    "mae-base": lambda folder: write_transformers(
        ViTMAEForPreTraining(
            ViTMAEConfig(
                **VIT,
                patch_size=16,
                decoder_hidden_size=16,
                decoder_num_hidden_layers=1,
                decoder_num_attention_heads=2,
                decoder_intermediate_size=32,
            )
        ),
        folder,
    ),
    "openclip-vit-b-16": write_openclip,
}


@pytest.mark.parametrize("name", WRITERS)
def test_hub_models_load_by_id_from_the_cache_and_run_the_same_pipelines(name, hub_cache, scene_image):
    assert hub.availability(name) == "download"
    WRITERS[name](hub_cache(name))
    assert hub.availability(name) == "cached"
    if MODELS[name].family == "mae":
        hiding = Hiding(mask_ratio=0.75, pattern="random")
        found = reconstruction.reconstruct(reconstruction.encode(scene_image, name), hiding)
        assert found.visible.sum() == 49 and found.scores.psnr > 0
    else:
        prompt = "a zebra on the moon" if MODELS[name].family == "openclip" else ""
        found = token_removal.query(token_removal.encode(scene_image, name), Settings(prompt=prompt))
        assert -1 <= found.cosine_to_full <= 1 and (found.similarity_full is None) == (prompt == "")


@pytest.mark.parametrize("name", ["dino-vits16", "dinov2-small"])
def test_a_storybook_scene_keeps_its_truth_under_any_grid(name, hub_cache, tmp_path):
    """224-pixel models have 14 or 16 patches a side, of which 14 does not divide the scene's 128 pixels."""
    from gradio.processing_utils import get_pil_metadata

    WRITERS[name](hub_cache(name))
    picture, _ = pictures.scene_picture({"seed": storybook.TEST[3]})
    picture.save(tmp_path / "scene.png", pnginfo=get_pil_metadata(picture))
    shown = token_removal_tab.token_removal(str(tmp_path / "scene.png"), Settings(model=name))
    assert 0 <= shown["numbers"]["object_patches_kept"] <= 1


def test_bundled_only_means_the_hub_is_never_asked(monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_ask", lambda spec: pytest.fail("the hub was asked"))
    monkeypatch.setattr(hub, "bundled_only", True)
    with pytest.raises(ModelUnavailable, match="off limits"):
        next(hub.fetch(MODELS["dino-vits16"]))


@pytest.mark.parametrize("name", [n for n, s in MODELS.items() if (s.tier, s.family) == ("bundled", "openclip")])
def test_bundled_models_open_with_plain_open_clip(name):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{BUNDLED / name}")
    tokens = open_clip.get_tokenizer(f"local-dir:{BUNDLED / name}")(["a cat", "a red car on grass"])
    assert model.encode_text(tokens).shape == (2, 128)


def test_bundled_detector_opens_with_plain_transformers():
    from transformers import AutoProcessor, GroundingDinoForObjectDetection

    folder = BUNDLED / "storybook-grounding-dino"
    processor, scene = AutoProcessor.from_pretrained(folder), storybook.scene(storybook.TEST[4])
    inputs = processor(images=Image.fromarray(scene.picture), text="elephant. yellow bow.", return_tensors="pt")
    with torch.no_grad():
        found = GroundingDinoForObjectDetection.from_pretrained(folder).eval()(**inputs)
    shown = processor.post_process_grounded_object_detection(
        found, inputs.input_ids, threshold=0.5, text_threshold=0.5, target_sizes=[(128, 128)]
    )[0]
    true = {o.noun: o.box for o in scene.objects}
    assert len(shown["boxes"]) == 2
    for box, label in zip(shown["boxes"], shown["text_labels"], strict=True):
        assert np.abs(box.numpy() - true[label.split()[-1]]).max() < 4, (label, box)


def test_offline_and_not_cached_says_so_without_asking(hub_cache, monkeypatch):
    monkeypatch.setattr(hub, "_ask", lambda spec: pytest.fail("the hub was asked"))
    with pytest.raises(ModelUnavailable, match="not in this computer's cache.*storybook"):
        load("dino-vits16")


def test_nobody_waits_for_a_silent_hub(hub_cache, monkeypatch):
    """A hub that accepts the connection and answers when nobody waits any more."""
    over = threading.Event()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: over.wait(200))
    assert hub.ANSWER_SECONDS <= 10
    monkeypatch.setattr(hub, "ANSWER_SECONDS", 0.2)
    with pytest.raises(ModelUnavailable, match="does not answer.*storybook"):
        load("dino-vits16")
    assert not over.is_set()
    over.set()
    assert load("storybook-clip-b").size == 128, "the bundled model stays usable"


def files(*names: str):
    """A hub that has these files on its main branch."""
    return lambda *_, **__: SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])


@pytest.fixture
def online(hub_cache, monkeypatch):
    """A hub that answers. `online(code)` makes a download run that Python code instead, with the cache as argument."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", files("model.safetensors"))
    asked = []

    def download(code: str) -> list:
        def command(spec, revision):
            asked.append((spec.source, revision))
            return [sys.executable, "-c", code, str(hub.repository(spec))]

        monkeypatch.setattr(hub, "_download_command", command)
        return asked

    return download


def test_download_that_breaks_off_says_so(online):
    online("raise ConnectionError('reset by peer')")
    with pytest.raises(ModelUnavailable, match="broke off .ConnectionError.*goes on where it stopped"):
        load("dino-vits16")


def test_download_tells_how_far_it_is_and_stops_when_left(online):
    online(
        "import sys, pathlib, time; b = pathlib.Path(sys.argv[1]) / 'blobs'; b.mkdir(parents=True); "
        "[(b.joinpath(str(i)).write_bytes(bytes(9_000_000)), time.sleep(0.3)) for i in range(100)]"
    )
    shares, run = [], hub.fetch(MODELS["dino-vits16"])
    for share in run:
        shares.append(share)
        if share > 0.3:
            run.close()
            break
    assert shares == sorted(shares) and 0.3 < shares[-1] < 1
    there = len(list(hub.repository(MODELS["dino-vits16"]).glob("blobs/*")))
    time.sleep(1)
    assert len(list(hub.repository(MODELS["dino-vits16"]).glob("blobs/*"))) == there, "the download went on"


@pytest.mark.parametrize("main_has_it", [True, False])
def test_safetensors_come_from_main_or_from_the_hubs_converter(hub_cache, online, monkeypatch, main_has_it):
    if not main_has_it:
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", files("config.json", "pytorch_model.bin"))
        request = SimpleNamespace(git_reference="refs/pr/3")
        monkeypatch.setattr(
            huggingface_hub.HfApi,
            "get_repo_discussions",
            lambda *_, author, **__: [request] if author == "SFconvertbot" else [],
        )
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, revision: ["model.safetensors"])
    folder = hub_cache("dino-vits16")
    WRITERS["dino-vits16"](folder)
    folder.rename(folder.parents[2] / "elsewhere")
    asked = online(
        "import sys, pathlib; r = pathlib.Path(sys.argv[1]); (r.parent / 'elsewhere').rename(r / 'snapshots' / 'new')"
    )
    assert load("dino-vits16").encoder.grid == 14
    assert asked == [("facebook/dino-vits16", "main" if main_has_it else "refs/pr/3")]


def test_text_to_image_models_load_by_id_and_draw_with_the_same_pipeline(hub_cache):
    """Stable Diffusion 1.5's classes: an autoencoder with a distribution, epsilon, another decoder for previews."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    from pipelines.diffusion import pipeline as diffusion

    vae = AutoencoderKL(
        block_out_channels=(16,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        latent_channels=4,
    )
    tiny_diffusion.pipeline("epsilon", vae=vae).save_pretrained(hub_cache("stable-diffusion-1.5"))
    AutoencoderTiny(**tiny_diffusion.DECODER).save_pretrained(hub_cache("taesd"))
    assert [hub.availability(name) for name in ("stable-diffusion-1.5", "sd-turbo")] == ["cached", "download"]
    model = load("stable-diffusion-1.5", TextToImage)
    assert model.size == 128 and model.previewer is load("taesd", LatentDecoder).module
    asked = {"guidance_scale": 7.5, "sampler": "ddim", "steps": 2, "model": "stable-diffusion-1.5"}
    *steps, result = diffusion.run(diffusion.Settings(prompt="a cat and a frog", **asked))
    own, preview = (diffusion.decode(model, result.latents[None], preview)[0] for preview in (False, True))
    assert result.picture.tobytes() == own.tobytes() != preview.tobytes(), "the result is the model's own decoder's"
    shown = diffusion.decode(model, steps[-1].clean[None], preview=True)[0]
    assert steps[-1].picture.tobytes() == shown.tobytes(), "previews are the small decoder's"
    with Image.new("RGB", (64, 64), (200, 30, 30)) as red:
        again = diffusion.encode(model, red)
    assert again.shape == (1, 4, 16, 16) and torch.equal(again, diffusion.encode(model, red)), "the mode, no noise"


def test_one_set_of_weights_is_asked_for_of_a_text_to_image_model():
    command = hub._download_command(MODELS["sd-turbo"], "main")
    assert command[3:5] == ["stabilityai/sd-turbo", "main"]
    assert not any(pattern.startswith("*.") or "fp16" in pattern or pattern.endswith("bin") for pattern in command[5:])
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        assert f"{part}.safetensors" in command


def test_only_safe_files_are_asked_for():
    command = hub._download_command(MODELS["dino-vits16"], "main")
    assert command[3:] == ["facebook/dino-vits16", "main", "*.json", "*.txt", "*.safetensors"]


def test_pickled_weights_are_never_opened(online, monkeypatch):
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", files("config.json", "pytorch_model.bin"))
    monkeypatch.setattr(huggingface_hub.HfApi, "get_repo_discussions", lambda *_, **__: [])
    asked = online("")
    with pytest.raises(ModelUnavailable, match="offers no model.safetensors"):
        load("dino-vits16")
    assert asked == []


def test_damaged_weights_give_a_message_and_nothing_is_kept(hub_cache):
    folder = hub_cache("dino-vits16")
    WRITERS["dino-vits16"](folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnavailable, match="damaged or incomplete .model.safetensors broken.*delete that folder"):
        load("dino-vits16")
    (folder / "model.safetensors").write_bytes(whole)
    assert load("dino-vits16").encoder.grid == 14


def cut(file) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def beside(file) -> None:
    """As a download leaves it that breaks off: a blob that is not whole, and a link that leads nowhere."""
    blobs = file.parents[2] / "blobs"
    blobs.mkdir()
    (blobs / "abc.incomplete").write_bytes(file.read_bytes()[:100])
    file.unlink()
    file.symlink_to(blobs / "abc")


def shards(file) -> None:
    """Of two files of weights the second has not come yet."""
    index = {
        "metadata": {},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    file.rename(file.with_name("model-00001-of-00002.safetensors"))
    file.with_name("model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


FAULTS = {
    "half written": lambda f: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2]),
    "all but the end": cut,
    "nothing in it": lambda f: f.write_bytes(b""),
    "noise": lambda f: f.write_bytes(bytes(range(256)) * 20),
    "a pointer of git": lambda f: f.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "a folder": lambda f: (f.unlink(), f.mkdir()),
    "interrupted": beside,
    "a shard missing": shards,
    "no configuration": lambda f: f.with_name("config.json").unlink(),
    "half a configuration": lambda f: cut(f.with_name("config.json")),
    "no snapshot": lambda f: [each.unlink() for each in f.parent.iterdir()],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_whole_is_never_called_cached(fault, hub_cache, online):
    """Offline the folder is named; online the rest is fetched, what is broken by name."""
    folder = hub_cache("dino-vits16")
    WRITERS["dino-vits16"](folder)
    assert hub.availability("dino-vits16") == "cached"
    spare = folder.parents[2] / "spare"
    folder.rename(spare)
    folder.mkdir()
    for file in spare.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    FAULTS[fault](folder / "model.safetensors")
    assert hub.availability("dino-vits16") == "download"
    command = hub._download_command(MODELS["dino-vits16"], "main")
    assert all((folder / name[1:]).is_file() for name in command if name.startswith("!"))
    constants.HF_HUB_OFFLINE = True  # put back by `hub_cache`
    with pytest.raises(ModelUnavailable) as told:
        load("dino-vits16")
    assert str(hub.repository(MODELS["dino-vits16"])) in str(told.value) or fault == "no snapshot"
    constants.HF_HUB_OFFLINE = False
    online(
        "import sys, pathlib, shutil; r = pathlib.Path(sys.argv[1]); s = next((r / 'snapshots').iterdir()); "
        "shutil.rmtree(s); (r.parent / 'spare').rename(s)"
    )
    assert load("dino-vits16").encoder.grid == 14 and hub.availability("dino-vits16") == "cached"


def test_a_download_that_leaves_something_broken_is_named(hub_cache, online):
    cut_folder = hub_cache("dino-vits16")
    WRITERS["dino-vits16"](cut_folder)
    cut(cut_folder / "model.safetensors")
    online("pass")
    with pytest.raises(ModelUnavailable, match="downloaded, but.*model.safetensors broken.*Delete .*dino-vits16"):
        load("dino-vits16")


def test_another_models_folder_is_named(hub_cache):
    folder = hub_cache("dinov2-small")
    WRITERS["dino-vits16"](folder)
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(ModelUnavailable, match="another model's. Delete .*models--facebook--dinov2-small"):
        load("dinov2-small")


@pytest.mark.parametrize("foreign", ["file", "empty", "refs"])
def test_a_foreign_repository_folder_is_no_model(foreign, hub_cache):
    repository = hub.repository(MODELS["dino-vits16"])
    if foreign == "file":
        repository.write_bytes(b"mine")
    else:
        repository.mkdir()
    if foreign == "refs":
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_bytes(b"\xff\xfe")
    assert hub.availability("dino-vits16") == "download"


def test_the_snapshot_that_main_points_to_comes_first(hub_cache):
    folder = hub_cache("dino-vits16")
    WRITERS["dino-vits16"](folder)
    other = folder.with_name("f" * 40)
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert hub.folder_of(MODELS["dino-vits16"]) == folder
    cut(folder / "model.safetensors")
    assert hub.folder_of(MODELS["dino-vits16"]) == other, "an older one that is whole serves as well"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="There is no model 'gpt'.*storybook-detailclip"):
        load("gpt")


def test_loading_twice_at_once_loads_once():
    opened = []

    def slow(spec):
        opened.append(spec.name)
        time.sleep(0.2)
        return type("Fake", (), {"megabytes": 1.0})()

    cache = Cache(10, slow)
    threads = [threading.Thread(target=cache.get, args=("dino-vits16",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["dino-vits16"]


def test_memory_is_bounded_and_the_least_recent_leaves():
    cache = Cache(25, lambda spec: type("Fake", (), {"megabytes": 10.0})())
    for name in ("dino-vits16", "dinov2-small", "dino-vits16", "mae-base"):
        cache.get(name)
    assert list(cache.models) == ["dino-vits16", "mae-base"]


def test_failed_load_can_be_tried_again():
    attempts = []

    def flaky(spec):
        attempts.append(1)
        if len(attempts) == 1:
            raise ModelUnavailable("not now")
        return type("Fake", (), {"megabytes": 1.0})()

    cache = Cache(10, flaky)
    with pytest.raises(ModelUnavailable):
        cache.get("dino-vits16")
    assert cache.get("dino-vits16") and len(attempts) == 2


@pytest.mark.parametrize("prompt", ["a zebra", "گربه", "a cat 😀", "cat; drop table", "[END]"])
def test_unknown_words_are_named_with_the_known_ones(prompt):
    with pytest.raises(ValueError, match="does not know.*apple, at, backpack"):
        load("storybook-clip-b").text_features([prompt])


def test_known_words_in_any_case_and_article():
    model = load("storybook-clip-b")
    a, b = model.text_features(["A elephant, and a GREY bowl", "an elephant, and a gray bowl"])
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("word", ["cat", "!", "naïve🐱"])
def test_the_longest_text_that_fits_is_read_and_the_next_refused_with_its_number(word):
    """open_clip 130: start, 75 pieces and end are the 77 that CLIP reads. "!" is number 0, which is padding too."""
    tokenize = open_clip.get_tokenizer("ViT-B-32")

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def encode_text(self, ids, normalize):
            return ids.float()

    model = encoders.Model(
        spec=SimpleNamespace(name="clip"),
        module=Text(),
        encoder=None,
        chooser=None,
        size=224,
        mean=(0,) * 3,
        deviation=(1,) * 3,
        tokenize=tokenize,
        vocabulary=None,
    )
    each = len(tokenize.encode(word))
    for pieces in range(1, 90):
        text = " ".join([word] * (pieces // each) + ["cat"] * (pieces % each))
        assert len(tokenize.encode(text)) == pieces
        if pieces <= 75:
            assert model.text_features(["a cat", text]).shape == (2, 77)
        else:
            with pytest.raises(UserError, match=f"at most 75 pieces of words, and this text has {pieces}"):
                model.text_features(["a cat", text])


@pytest.mark.parametrize("name", ["storybook-clip-b", "storybook-detailclip"])
def test_the_longest_text_of_known_words_is_read(name):
    assert load(name).text_features([" ".join(["cat"] * 22)]).shape[0] == 1
    with pytest.raises(UserError, match="at most 22 words and commas, not 23"):
        load(name).text_features([" ".join(["cat"] * 23)])


def test_too_many_words_are_refused():
    with pytest.raises(ValueError, match="at most 22 words"):
        load("storybook-clip-b").text_features(["cat " * 50])


def test_a_detailclip_opens_under_the_names_of_older_exports(tmp_path):
    """Files and settings once had other names; the shipped weights have the older names of layers."""
    older = {"decode_on_fill": "paint_on_fill", "refinement": "retouch"}
    for file in DETAIL.glob("*.safetensors"):
        (tmp_path / file.name.replace("refinement", "retouch")).symlink_to(file)
    config = json.loads((DETAIL / "detailclip_config.json").read_text(encoding="utf-8"))
    config = {older.get(name, name): value for name, value in config.items()}
    (tmp_path / "detailclip_config.json").write_text(json.dumps(config), encoding="utf-8")
    model = load("storybook-detailclip")
    again = encoders.load_detail(tmp_path, copy.deepcopy(model.module))
    assert model.detail is not None and again.settings == model.detail.settings
    for name, tensor in model.detail.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=0, rtol=0)
