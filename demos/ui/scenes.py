"""The picture a tab works on, and the ways to get one: upload, the next scene, a composed scene, a photograph."""

from collections.abc import Callable

import gradio as gr

from demos.ui import pictures, stale
from demos.ui.controls import Dropdown, Textbox, whole, words
from demos.ui.pictures import PHOTOGRAPHS, photograph, scene_picture, told_of
from demos.ui.tab import Addressed, Tab
from demos.ui.text import say, t
from pipelines.errors import UserError
from pipelines.world import storybook

MOST_SCENES = 999_999  # that can be had by number
UPLOADED = "uploaded"  # in an address: whose picture it cannot hold


def picture_controls(
    tab: Tab,
    seed: int,
    caption: str | None = None,
    tell: Callable[[storybook.Scene], str] = told_of,
    otherwise: object = "",
) -> None:
    """Lay out and connect the part `image` and what fills it.

    Parts besides: `drawn`, the full caption of the scene that was drawn last, "" for a picture that is none, and
    `picture`, which says in the page's address which one it is: the number of a scene, a sentence, the name of a
    photograph, UPLOADED. After an upload `tab.uploaded` runs.

    Args:
        seed: of the first scene, counted within the test range.
        caption: a text part that is to hold what `tell` says of the drawn scene, in the same breath as the picture
            changes, and `otherwise` with a picture that is no scene.
    """
    tab.stopped = stale.tell_stopped
    first, scene = scene_picture({"seed": storybook.TEST[seed]})
    tab.picture("image", "Picture", value=first, height=300, buttons=["fullscreen", "download"])
    tab.state("counter", seed)
    tab.state("drawn", tell(scene))
    tab.button("next", "Next scene", size="md")
    with gr.Group():
        tab.add("compose", _sentence(tab))
        names = [(t(name), name) for name in PHOTOGRAPHS]
        tab.add("photo", Dropdown(names, value=None, label=t("or a photograph"), elem_id=tab.id("photo")))
    tab.add("picture", gr.Textbox(str(seed), visible="hidden", elem_id=tab.id("picture")))
    _connect(tab, seed, caption, tell, otherwise)


def _connect(
    tab: Tab, seed: int, caption: str | None, tell: Callable[[storybook.Scene], str], otherwise: object
) -> None:
    """What fills the picture, and puts it into the address."""

    def filled(picture: str, told: str, caption_says: object, **shown: object) -> dict:
        captioned = {caption: caption_says} if caption else {}
        return {"picture": picture, "drawn": told, "photo": None, **captioned, **shown}

    def drawn(picture: str, recipe: dict, **shown: object) -> dict:
        image, scene = scene_picture(recipe)
        return filled(picture, tell(scene), tell(scene), image=image, **shown)

    def next_scene(counter: int) -> dict:
        return drawn(str(counter + 1), {"seed": storybook.TEST[counter + 1]}, counter=counter + 1)

    def compose_scene(compose: str) -> dict:
        sentence = words(say("The sentence"), compose)
        return drawn(sentence, {"text": sentence, "seed": 0})

    def take_photograph(photo: str) -> dict:
        return filled(photo, "", otherwise, image=photograph(photo), photo=photo)

    def forget() -> dict:
        return filled(UPLOADED, "", otherwise)

    def restore(picture: str) -> dict:
        """The picture that an address names."""
        if picture == UPLOADED:
            raise UserError("The picture of this link was uploaded, so it is not part of it. Upload it again.")
        if picture in PHOTOGRAPHS:
            return take_photograph(picture)
        if picture.isdecimal():
            return next_scene(whole(say("The scene of the address"), int(picture[:20]), 0, MOST_SCENES) - 1)
        return compose_scene(picture)

    shows = ["image", "picture", "drawn", "photo", "counter", *([caption] if caption else [])]
    tab.addressed["picture"] = Addressed(default=str(seed), fills=tuple(shows), restore=restore)
    tab.quick(tab["next"].click, next_scene, shows)
    tab.quick(tab["compose"].submit, compose_scene, shows)
    tab.quick(tab["photo"].input, take_photograph, shows)
    tab.uploaded = tab.quick(tab["image"].upload, forget, shows)


def _sentence(tab: Tab) -> Textbox:
    return Textbox(
        label=t("Compose a scene"),
        placeholder=t("a cat left of a red car on grass"),
        max_length=pictures.MOST_SENTENCE,
        elem_id=tab.id("compose"),
        info=t("24 things, 11 colours, 5 places; press Enter"),
    )
