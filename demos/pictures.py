"""Pictures in: whatever file a visitor brings, scenes that carry their truth, photographs, and the controls."""

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np
from gradio.events import Dependency
from PIL import Image, ImageOps

from demos import decoding
from demos.common import Dropdown, Textbox, choice, light, model_names, say, t, words
from pipelines import storybook
from pipelines.errors import UserError
from pipelines.registry import MODELS, STORYBOOK

SCENE_KEY = "patchlight-scene"  # PNG text chunk that says which scene a picture is


class Picture(gr.Image):
    """An image input that hands over the file's path unopened, so that every bad file gets our own message."""

    is_template = True  # to the browser it is a plain Image

    def preprocess(self, payload) -> str | None:
        return payload.path if payload else None


class Canvas(gr.ImageEditor):
    """A picture to paint on. Of what comes back only the layers are taken, unopened as in `Picture`."""

    is_template = True

    def convert_and_format_image(self, file, flatten_on_white: bool = False) -> str | bytes | None:
        if file is None or flatten_on_white:  # as Gradio asks for the background, and for all in one
            return None
        return file if isinstance(file, bytes | bytearray | memoryview) else file.path


@dataclass(frozen=True)
class Given:
    """A picture that was given to a tab, and its truth if it is a storybook scene."""

    picture: Image.Image  # RGB
    scene: storybook.Scene | None


def read_picture(path: str | None) -> Given:
    """Open an uploaded file with care; see demos/decoding.py for what becomes of which kind.

    Raises:
        UserError: for no file, a file that is no picture, a damaged one, an SVG, one too large or too small.
    """
    if not path:
        raise UserError(say("Choose or upload a picture first."))
    decoded = decoding.decode(_bytes_of(path))
    picture = decoding.on_white(decoded.image)
    return Given(picture, _scene_of(picture, decoded.texts.get(SCENE_KEY, "null")))


def read_layer(layer: str | bytes) -> np.ndarray:
    """(H, W, 4) uint8 of a layer of a `Canvas`. Errors as in `read_picture`."""
    data = _bytes_of(layer) if isinstance(layer, str) else bytes(layer)
    return np.asarray(decoding.decode(data).image.convert("RGBA"))


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
    image = Image.open(Path(package.origin).parent / "data" / PHOTOGRAPHS[name]).convert("RGB")
    return ImageOps.fit(image, (512, 512), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class PictureControls:
    """The picture input of a tab and the ways to fill it."""

    image: Picture
    drawn: gr.State  # full caption of the scene that was drawn last; "" for a photograph
    uploaded: Dependency  # an upload has emptied the caption


def picture_controls(
    tab: str,
    seed: int,
    caption: gr.Textbox | None = None,
    tell: Callable[[storybook.Scene], str] = told_of,
    otherwise: object = "",
) -> PictureControls:
    """Upload, next scene, a composed scene, a photograph. Must be called inside the tab's layout.

    `caption` is a text field that is to hold what `tell` says of the drawn scene, in the same breath as the picture
    changes, and `otherwise` with a picture that is no scene.
    """
    first, first_scene = scene_picture({"seed": storybook.TEST[seed]})
    first_caption = tell(first_scene)
    image = Picture(
        value=first,
        label=t("Picture"),
        elem_id=f"{tab}-image",
        type="filepath",
        image_mode=None,
        format="png",
        sources=["upload", "clipboard"],
        height=300,
        buttons=["fullscreen", "download"],
    )
    counter, drawn = gr.State(seed), gr.State(first_caption)
    following = gr.Button(t("Next scene"), elem_id=f"{tab}-next", size="md")
    with gr.Group():
        sentence = Textbox(
            label=t("Compose a scene"),
            placeholder=t("a cat left of a red car on grass"),
            max_length=300,
            elem_id=f"{tab}-compose",
            info=t("24 things, 11 colours, 5 places; press Enter"),
        )
        photo = Dropdown(
            [(t(name), name) for name in PHOTOGRAPHS], value=None, label=t("or a photograph"), elem_id=f"{tab}-photo"
        )

    def next_scene(number: int):
        picture, scene = scene_picture({"seed": storybook.TEST[number + 1]})
        return picture, tell(scene), None, number + 1, *([tell(scene)] if caption else [])

    def compose(text: str):
        picture, scene = scene_picture({"text": words(say("The sentence"), text), "seed": 0})
        return picture, tell(scene), None, *([tell(scene)] if caption else [])

    def photographed(name: str):
        return photograph(name), "", *([otherwise] if caption else [])

    private = {"api_visibility": "private", "show_progress": "hidden"}
    told = [caption] if caption else []
    following.click(light(next_scene), counter, [image, drawn, photo, counter, *told], **private)
    sentence.submit(light(compose), sentence, [image, drawn, photo, *told], **private)
    photo.input(light(photographed), photo, [image, drawn, *told], **private)
    uploaded = image.upload(lambda: (None, "", *([otherwise] * len(told))), None, [photo, drawn, *told], **private)
    return PictureControls(image, drawn, uploaded)


# --------------------------------------------------------------------------------------- one screen, one picture
# Results carry the mark of the picture they are of. As soon as another one is given they are greyed, until a run for it
# is done; where that fails they go.

STALE = '<i class="stale"></i>'  # assets/style.css greys what stands beside it


def mark_of(image: str | None) -> str:
    """Names an uploaded file without saying where it lies."""
    return hashlib.sha256((image or "").encode()).hexdigest()[:16]


def told(tab: str) -> gr.HTML:
    """The line above a tab's results. Empty while they are of the picture that was given."""
    return gr.HTML(elem_id=f"{tab}-told", elem_classes="told-of")


def _is_of(image: str | None, numbers: object) -> bool:
    return isinstance(numbers, dict) and numbers.get("picture") == mark_of(image)


def held(image: str | None, numbers: object) -> str:
    """What the screen holds when nothing goes on."""
    return "" if _is_of(image, numbers) else " " + say("What is shown is not of this picture.") + STALE


def one_picture(image: Picture, told: gr.HTML, result: gr.JSON, outputs: list, *runs: Dependency) -> None:
    """Grey `outputs` when the picture changes; let the end of any of `runs` say whether they are of it."""
    empty = [None] * len(outputs)
    quick = {"api_visibility": "private", "show_progress": "hidden"}
    image.change(None, None, told, js=f"() => '{STALE}'")
    for run in runs:
        run.success(lambda image, numbers: "" if _is_of(image, numbers) else STALE, [image, result], told, **quick)
        run.failure(
            lambda image, numbers: gr.skip() if _is_of(image, numbers) else ("", *empty),
            [image, result],
            [told, *outputs],
            **quick,
        )


def panel(tab: str, name: str, label: str) -> gr.Image:
    """A picture that is shown, not taken."""
    return gr.Image(
        label=t(label), format="png", interactive=False, elem_id=f"{tab}-{name}", buttons=["fullscreen", "download"]
    )


def honest_note(given: Given, model: str, better: Sequence[str]) -> str:
    """What this model has and has not seen, said under every picture it makes of a photograph."""
    spec = MODELS[model]
    if spec.seen != STORYBOOK:
        return say("{name} was trained on {seen}. {notice}", name=spec.name, seen=spec.seen, notice=spec.notice)
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
