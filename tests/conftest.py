"""Fixtures: tiny models of the real classes, one served app for the API tests. Everything runs offline on a CPU."""

import ast
import functools
import os
import re
import socket
from collections.abc import Iterator

os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side, so none may take all cores
    os.environ["OMP_NUM_THREADS"] = "1"
    # Gradio takes the first free port from here on, and two that look at once would take the same one.
    os.environ["GRADIO_SERVER_PORT"] = str(7860 + 100 * int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")))

import open_clip
import pytest
import torch
from PIL import Image

from demos.ui import text
from pipelines.models.detailclip import DetailCLIP, Settings
from pipelines.models.detectors import Detector
from pipelines.world import storybook

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1},
}
TINY_SETTINGS = Settings(prototypes=12, head_hidden=24, head_bottleneck=8, decoder_layers=1, decoder_heads=2)


@pytest.fixture
def tiny() -> DetailCLIP:
    """A whole DetailCLIP of real parts, 4x4 patches, random weights."""
    torch.manual_seed(0)
    return DetailCLIP(open_clip.model.CLIP(**TINY), TINY_SETTINGS)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Two views of three pictures, and three captions."""
    rng = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 3, 32, 32, generator=rng), torch.randint(1, 19, (3, 8), generator=rng)


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory):
    """A small random detector, exported as the bundled one is."""
    from tests import tiny_detector

    return tiny_detector.exported(tmp_path_factory.mktemp("detector"))


@pytest.fixture
def detector(detector_folder, monkeypatch):
    """The same, loaded as the hub's small one would be."""
    from pipelines.models import loading
    from tests import tiny_detector

    cache = loading.Cache(1000, lambda spec: loading.open_folder(spec, detector_folder))
    monkeypatch.setattr(loading, "_CACHE", cache)
    return loading.load(tiny_detector.NAME, Detector)


@pytest.fixture(scope="session")
def scene() -> storybook.Scene:
    return storybook.scene(storybook.TEST[17], count=1)


@pytest.fixture(scope="session")
def scene_image(scene) -> Image.Image:
    return Image.fromarray(scene.picture)


@pytest.fixture(scope="session", autouse=True)
def connections_elsewhere() -> Iterator[list[str]]:
    """Every address outside this computer that the test process, and with it the served app, tries to reach."""
    tried, connect = [], socket.socket.connect

    def watched(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            tried.append(str(address))
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", watched)
        yield tried


@pytest.fixture(scope="session")
def app_url():
    """The whole app, served on a free port of this computer."""
    import app
    from demos.ui.serving import launch_settings

    page = app.build()
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **launch_settings(page))
    yield url
    page.close()


@pytest.fixture(scope="session")
def scene_file(tmp_path_factory) -> str:
    """A scene's picture file, as the page makes it: with its recipe inside."""
    from gradio.processing_utils import get_pil_metadata

    from demos.ui import pictures

    image, _ = pictures.scene_picture({"seed": storybook.TEST[3]})
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    image.save(path, pnginfo=get_pil_metadata(image))
    return str(path)


class Said(dict):
    """Stands for the English texts: notes those that the app says and that have no Persian."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()

    def get(self, said, default=None):
        if said not in text.LANGUAGES[text.PERSIAN]:
            self.unknown.add(said)
        return default


@pytest.fixture(scope="session")
def words_said() -> Iterator[Said]:
    english = Said()
    text.LANGUAGES["en"] = english
    yield english
    del text.LANGUAGES["en"]


@functools.cache
def source_texts() -> set[str]:
    files = [file for folder in ("demos", "pipelines") for file in (text.ASSETS.parent / folder).rglob("*.py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    return {str(node.value) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}


@pytest.fixture(autouse=True)
def what_is_said_is_translated(words_said) -> Iterator[None]:
    """Whatever the app says in any test has a translation, also what no search of its source would find."""
    yield
    found, words_said.unknown = words_said.unknown, set()
    found = {
        each for each in found if re.search("[A-Za-z]{2}", each) and not re.fullmatch(r"[\w./-]+[-/][\w./-]+", each)
    }
    missing = sorted(found & source_texts())
    assert not missing, f"no Persian for {missing}"
