"""Pictures in: whatever file a visitor brings, scenes that carry their truth, photographs, and the controls."""

import contextlib
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageOps

from demos.ui import decoding
from demos.ui.controls import choice
from demos.ui.models import model_names
from demos.ui.text import say
from pipelines.errors import UserError
from pipelines.models.registry import MODELS, STORYBOOK
from pipelines.settings import Setting
from pipelines.world import storybook

MOST_SENTENCE = 300  # characters of a composed scene
SCENE_KEY = "patchlight-scene"  # PNG text chunk that says which scene a picture is


class Picture(gr.Image):
    """An image input that hands over the file's path unopened, so that every bad file gets our own message."""

    is_template = True  # to the browser it is a plain Image

    def preprocess(self, payload) -> str | None:
        return payload.path if payload else None


class Canvas(gr.ImageEditor):
    """A picture to paint on. Of what comes back only the layers are taken, unopened as in `Picture`."""

    is_template = True

    def convert_and_format_image(self, file, flatten_on_white: bool = False) -> Any:
        if file is None or flatten_on_white:  # as Gradio asks for the background, and for all in one
            return None
        return file if isinstance(file, bytes | bytearray | memoryview) else file.path


@dataclass(frozen=True, kw_only=True)
class Given:
    """A picture that was given to a tab, and its truth if it is a storybook scene."""

    picture: Image.Image  # RGB
    scene: storybook.Scene | None


def read_picture(path: Any) -> Given:
    """Open an uploaded file with care; see demos/decoding.py for what becomes of which kind.

    Raises:
        UserError: for no file, a file that is no picture, a damaged one, an SVG, one too large or too small.
    """
    if not path:
        raise UserError(say("Choose or upload a picture first."))
    decoded = decoding.decode(_bytes_of(path))
    picture = decoding.on_white(decoded.image)
    return Given(picture=picture, scene=_scene_of(picture, decoded.texts.get(SCENE_KEY, "null")))


def texts_of(path: str) -> dict[str, str]:
    """What is written inside a PNG, by name. Errors as in `read_picture`."""
    return decoding.decode(_bytes_of(path)).texts


def read_layer(layer: str | bytes) -> np.ndarray:
    """(H, W, 4) uint8 of a layer of a `Canvas`. Errors as in `read_picture`."""
    data = _bytes_of(layer) if isinstance(layer, str) else bytes(layer)
    return np.asarray(decoding.decode(data).image.convert("RGBA"))


def opened(known: Mapping[str, Setting], values: Mapping[str, object]) -> dict[str, object]:
    """Values of settings that arrived over the wire, the files of pictures among them opened."""
    found = dict(values)
    for name, value in values.items():
        if known[name].kind is Image.Image and value is not None:
            found[name] = read_picture(value).picture
    return found


def _bytes_of(path: str) -> bytes:
    try:
        with contextlib.suppress(PermissionError):
            os.utime(path)  # in use: not yet to be cleaned away
        return Path(path).read_bytes()
    except OSError:
        raise UserError(say("This picture is no longer kept here. Please upload it again.")) from None


def _scene_of(picture: Image.Image, told: str) -> storybook.Scene | None:
    """The scene a picture says it is, drawn again and compared pixel by pixel: truth is never taken on trust, and a
    picture that was turned since is not the scene any more."""
    try:
        recipe = json.loads(told)
        scene = draw_scene(recipe) if recipe else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None  # somebody else's metadata
    return scene if scene is not None and np.array_equal(scene.picture, np.asarray(picture)) else None


def draw_scene(recipe: dict) -> storybook.Scene:
    """{"seed": 7} draws a random scene, {"text": "a cat left of a red car", "seed": 7} the one that was asked for."""
    if "text" in recipe:
        return storybook.compose_text(str(recipe["text"])[:300], seed=int(recipe["seed"]))
    return storybook.scene(int(recipe["seed"]))


def scene_picture(recipe: dict) -> tuple[Image.Image, storybook.Scene]:
    """The picture of a scene with its recipe inside the file, and the scene."""
    scene = draw_scene(recipe)
    image = Image.fromarray(scene.picture)
    image.info[SCENE_KEY] = json.dumps(recipe)
    return image, scene


def told_of(scene: storybook.Scene) -> str:
    """The caption of a scene, where the models know all of its words."""
    return "" if any(o.noun in storybook.UNSEEN for o in scene.objects) else scene.full_caption


PHOTOGRAPHS = {  # pictures in the scikit-image package; sources and licences in assets/scenes/CREDITS.md
    "cat (fur)": "chelsea.png",
    "coffee": "coffee.png",
    "astronaut": "astronaut.png",
    "rocket": "rocket.jpg",
    "tissue under the microscope": "ihc.png",
    "retina": "retina.jpg",
    "printed page": "page.png",
}


def photograph(name: str) -> Image.Image:
    choice("photograph", name, list(PHOTOGRAPHS))
    package = importlib.util.find_spec("skimage")
    assert package is not None and package.origin is not None, "scikit-image carries the photographs"
    image = Image.open(Path(package.origin).parent / "data" / PHOTOGRAPHS[name]).convert("RGB")
    return ImageOps.fit(image, (512, 512), Image.Resampling.LANCZOS)


def honest_note(given: Given, model: str, better: Sequence[str]) -> str:
    """What this model has and has not seen, said under every picture it makes of a photograph."""
    spec = MODELS[model]
    if spec.seen != STORYBOOK:
        return say(
            "{name} was trained on {seen}. {notice}", name=spec.name, seen=say(spec.seen), notice=say(spec.notice)
        )
    if given.scene is not None:
        return say("{name}, trained by this project on storybook scenes; this one it has never seen.", name=spec.name)
    warning = say(
        "⚠️ {name} has only ever seen drawn storybook scenes: what it does with this picture shows what a model does "
        "outside its world, not how good the method is.",
        name=spec.name,
    )
    offered = [name for name in better if name in model_names(MODELS[name].family)]
    if not offered:
        return warning
    return f"{warning} {say('For photographs choose {better} in the model menu.', better=' or '.join(offered))}"
