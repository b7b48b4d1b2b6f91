"""What a network that has seen photographs calls a picture, and where it looks: offered for every picture that is no
scene of the world in which the bundled models were trained."""

import gradio as gr
import numpy as np
from PIL import Image

from demos.ui import charts, drawing
from demos.ui.controls import Textbox, words
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.pictures import PHOTOGRAPHS, read_picture
from demos.ui.scenes import UPLOADED
from demos.ui.tab import Tab
from demos.ui.text import say, t

MODEL = "efficientnet-lite0"
MOST_NAME = 60  # characters

classifiers = lazily("pipelines.models.classifiers")
loading = lazily("pipelines.models.loading")


@on_device
def look(picture: Image.Image, name: str) -> tuple[np.ndarray, list[tuple[str, float]], str, np.ndarray]:
    """The square it looks at, its likeliest names, one of its names, the likeliest where none is given, and its map."""
    known = loading.load(MODEL, classifiers.Classifier)
    likeliest = known.name(picture)
    name = name or likeliest[0][0]
    return known.square(picture), likeliest, name, known.activation_maps(picture, [name])[0]


def lay_out(tab: Tab) -> None:
    """A fold of the tab, hidden while its picture is a scene. Parts: `names_box`, `name` and `names`."""
    title = "A network that has seen photographs: what it calls this picture, and where it looks"
    with tab.accordion("names_box", title, visible=False):
        name = Textbox(
            label=t("Another of its 1,000 names"),
            placeholder=t("tabby, espresso, missile …; press Enter"),
            max_length=MOST_NAME,
            elem_id=tab.id("name"),
        )
        tab.add("name", name)
        tab.html("names")


def connect(tab: Tab) -> None:
    tab.quick(tab["picture"].change, offer, ["names_box", "name"])
    tab.when_open("names_box", show_names, ["names"], tab["image"].change, tab["name"].submit)


def offer(picture: str) -> dict:
    """Everything is known of a scene already. A name that was asked of the picture before is forgotten."""
    return {"names_box": gr.Accordion(visible=picture == UPLOADED or picture in PHOTOGRAPHS), "name": ""}


def show_names(image: str, name: str = "") -> dict:
    """Its names, and what speaks for one of them."""
    wanted = words(say("The name"), name, MOST_NAME).strip().lower()
    picture, likeliest, name, heat = look(read_picture(image).picture, wanted)
    over = drawing.heat_over(picture / 255, drawing.normalised(heat))
    shown = drawing.figures([(picture, say("what it sees")), (over, say("what speaks for “{name}”", name=name))])
    title = say("Its likeliest names, of 1,000: their shares add up to 1")
    bars = charts.value_bars([each for each, _ in likeliest], [share for _, share in likeliest], title)
    told = say("{model} was trained on 1.3 million photographs. The bundled models of this tab were not.", model=MODEL)
    return {"names": f"{shown}{bars}<p>{told}</p>"}
