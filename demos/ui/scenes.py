"""The picture a tab works on, and the ways to get one: upload, the next scene, a composed scene, a photograph."""

from collections.abc import Callable

import gradio as gr

from demos.ui import pictures, stale
from demos.ui.controls import Dropdown, Textbox, words
from demos.ui.pictures import PHOTOGRAPHS, photograph, scene_picture, told_of
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.world import storybook


def picture_controls(
    tab: Tab,
    seed: int,
    caption: str | None = None,
    tell: Callable[[storybook.Scene], str] = told_of,
    otherwise: object = "",
) -> None:
    """Lay out and connect the part `image` and what fills it.

    Parts besides: `drawn`, the full caption of the scene that was drawn last, "" for a picture that is none. After an
    upload `tab.uploaded` runs.

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

    def filled(told: str, caption_says: object, **shown: object) -> dict:
        return {"drawn": told, "photo": None, **({caption: caption_says} if caption else {}), **shown}

    def next_scene(counter: int) -> dict:
        picture, scene = scene_picture({"seed": storybook.TEST[counter + 1]})
        return filled(tell(scene), tell(scene), image=picture, counter=counter + 1)

    def compose_scene(compose: str) -> dict:
        picture, scene = scene_picture({"text": words(say("The sentence"), compose), "seed": 0})
        return filled(tell(scene), tell(scene), image=picture)

    def take_photograph(photo: str) -> dict:
        return filled("", otherwise, image=photograph(photo), photo=photo)

    def forget() -> dict:
        return filled("", otherwise)

    shows = ["image", "drawn", "photo", "counter", *([caption] if caption else [])]
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
