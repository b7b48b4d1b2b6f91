"""Which network to train next: a controller that learns it, beside random search and evolution, on a table in which
everything is known. Wraps pipelines/games/architect and pipelines/games/children."""

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw

from demos.ui import charts, controls, drawing, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.games.settings import (
    CHANNELS,
    CHILDREN,
    DECISIONS,
    LAYERS,
    SIZES,
    ArchitectSettings,
    ChildSettings,
    child_name,
)
from pipelines.games.verdicts import ARCHITECT, ARCHITECT_ANSWERS, architect_asked, of_architect
from pipelines.settings import settings_of

if TYPE_CHECKING:
    from pipelines.games.architect import Frame

WAYS = {"controller": "A · controller", "random": "B · random search", "evolution": "C · evolution"}
MOMENTS = 25  # of the film
LIVE_STEPS = 15  # of every network, where a class makes the table itself
STEPS = settings_of(ChildSettings)["steps"]
CELL, GAP, EDGE = (56, 34), 12, (92, 40)  # pixels of the drawn table: a cell, between blocks, left and above or below
GROUND, SHARE, NOW, BEST = (31, 41, 55), (180, 83, 9), (255, 255, 255), (239, 68, 68)

pipeline = lazily("pipelines.games.architect")
children = lazily("pipelines.games.children")


@on_device
def run(settings: ArchitectSettings, own: np.ndarray | None) -> Iterator["Frame"]:
    yield from pipeline.run(settings, children.recorded() if own is None else own)


@on_device(seconds=lab.LONGEST)
def train_all(seed: int, steps: int) -> Iterator:
    yield from children.make_table(seed, steps)


def seconds(settings: ArchitectSettings) -> float:
    """What a run is expected to take on two cores."""
    return 1 + 0.005 * settings.children * settings.seeds


def seconds_of_table(steps: int) -> float:
    """What training every network is expected to take on two cores, the drawing of the pictures included."""
    return 8 + 0.05 * len(CHILDREN) * steps


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, ARCHITECT.format(**architect_asked(ArchitectSettings())), ARCHITECT_ANSWERS, button="Search")
            for name in ("children", "price", "baseline"):
                tab.control(name)
            with gr.Accordion(t("More settings"), open=False):
                for name in ("rate", "entropy", "seeds", "seed"):
                    tab.control(name)
            with gr.Accordion(t("Make the table yourselves"), open=False):
                _lay_out_making(tab)
        with gr.Column(scale=8, min_width=320):
            tab.html("best")
            tab.html("table")
            lab.answered(tab)
            tab.add("film", film.FilmPlayer(elem_id=tab.id("film")))
            tab.html("charts")
            tab.html("facts")
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()
    tab.state("own")


def _lay_out_making(tab: Tab) -> None:
    part = controls.control(STEPS, value=LIVE_STEPS, elem_id=tab.id("table_steps"))
    tab.add("table_steps", part)
    with gr.Row():
        tab.button("make", "Train all 36", variant="primary", min_width=120)
        tab.button("recorded", "Back to the recorded table", min_width=120)
    tab.markdown("making", elem_classes="note")


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("children", "seeds"), empties=("own", "making"))
    tab.quick(tab["children"].change, ask_again, ["guess"])
    tab.compute(tab["make"].click, make_table, ["making", "table", "own"], seconds=lab.LONGEST + 60)
    tab.quick(tab["recorded"].click, back_to_recorded, ["making", "table", "own"])
    tab.quick([*tab.chosen, tab["numbers"].change], preview, ["table"])


# ----------------------------------------------------------------------------------------------------------- handlers


def architecture_search(
    settings: ArchitectSettings, guess: str | None = None, own: np.ndarray | None = None
) -> Iterator[dict]:
    """Let a controller, random search and evolution choose networks to train, and compare what they find.

    `own` is a table that was made here, (36,); the recorded one where there is none.
    """
    guess = lab.guessed(ARCHITECT_ANSWERS, guess)
    lab.affordable(seconds(settings))
    played = None
    for found, due in lab.paced(run(settings, own)):
        played = played or new_film(found)
        if due:
            done = say("Seed {done} of {of}", done=found.done, of=found.of)
            yield {"status": done, "verdict": "", "film": played.value(), **present(found)}
    assert played is not None
    yield {
        "status": "",
        "film": played.value(),
        **present(found),
        "verdict": lab.verdict(of_architect(found, guess), ARCHITECT_ANSWERS),
        "numbers": {**pipeline.numbers(settings, found, guess), "own_table": own is not None},
    }


def make_table(seed: int, table_steps: int) -> Iterator[dict]:
    """Train all networks here, one after another; the searches then run on what comes out."""
    steps = STEPS.check(table_steps)
    lab.affordable(seconds_of_table(steps))
    accuracies = np.full(len(CHILDREN), np.nan)
    yield {"making": lab.announced(seconds_of_table(steps)), "own": None}
    for now, due in lab.paced(train_all(seed, steps)):
        if hasattr(now, "child"):
            accuracies[CHILDREN.index(now.child)] = now.right
            told = say("{done} of {of} trained", done=int(np.isfinite(accuracies).sum()), of=len(CHILDREN))
            yield {"making": told, "table": shown_table(accuracies)}
        elif due:
            yield {"making": lab.drawing_pictures(now)}
    best = child_name(CHILDREN[int(accuracies.argmax())])
    told = say("Searches now run on your table. Its best: {best}, {share}.", best=best, share=f"{accuracies.max():.1%}")
    yield {"making": told, "own": accuracies}


def ask_again(settings: ArchitectSettings) -> dict:
    """The question, with the number of networks that is set now."""
    return {"guess": gr.Radio(label=say(ARCHITECT, **architect_asked(settings)))}


def back_to_recorded() -> dict:
    return {"own": None, "making": "", "table": shown_table(children.recorded())}


def preview(own: np.ndarray | None, numbers: dict | None) -> dict | None:
    """The table that is going to be searched; after a run it is there."""
    return None if numbers else {"table": shown_table(children.recorded() if own is None else own)}


# ----------------------------------------------------------------------------------------------------------- the table


def drawn_table(
    values: np.ndarray,
    shares: np.ndarray | None = None,
    now: Sequence[int] = (),
    best: int | None = None,
    told: bool = False,
) -> Image.Image:
    """All networks: three blocks of input sizes; down, layers; across, channels. Bright is better.

    Args:
        values: (36,) of CHILDREN; NaN is not known.
        shares: (10,) how likely each option is, drawn as a bar behind its name.
        now: networks that are trained now, with a white frame.
        best: the best so far, with a red frame.
        told: whether to write the values.
    """
    wide = 3 * CELL[0]
    size = EDGE[0] + len(SIZES) * wide + (len(SIZES) - 1) * GAP, 2 * EDGE[1] + len(LAYERS) * CELL[1]
    image = Image.new("RGB", size, GROUND)
    draw, font = ImageDraw.Draw(image), drawing.typeface(18)
    known = np.isfinite(values)
    scaled = drawing.normalised(values) if known.any() else values
    colours = np.where(known[:, None], drawing.viridis(scaled), GROUND)
    _draw_options(draw, font, shares, size)
    for place, (value, colour) in enumerate(zip(values, colours.tolist(), strict=True)):
        x, y = _corner(place)
        draw.rectangle([x, y, x + CELL[0] - 2, y + CELL[1] - 2], fill=tuple(colour))
        if told and np.isfinite(value):
            light = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 120
            middle = (x + CELL[0] / 2 - 1, y + CELL[1] / 2 - 1)
            draw.text(middle, f"{value:.2f}", font=font, fill="black" if light else "white", anchor="mm")
    for places, colour in ((now, NOW), ([] if best is None else [best], BEST)):
        for place in places:
            x, y = _corner(place)
            draw.rectangle([x - 1, y - 1, x + CELL[0] - 1, y + CELL[1] - 1], outline=colour, width=4)
    return image


def _corner(place: int) -> tuple[int, int]:
    """Upper left of a network's cell."""
    size, rest = divmod(place, len(LAYERS) * len(CHANNELS))
    layer, channel = divmod(rest, len(CHANNELS))
    left = EDGE[0] + size * (len(CHANNELS) * CELL[0] + GAP) + channel * CELL[0]
    return left, EDGE[1] + layer * CELL[1]


def _draw_options(draw: ImageDraw.ImageDraw, font, shares: np.ndarray | None, size: tuple[int, int]) -> None:
    """The names of all options at their edges, each before a bar as long as it is likely."""
    parts = np.split(np.zeros(10) if shares is None else shares, np.cumsum([len(SIZES), len(LAYERS)]))
    block, below = len(CHANNELS) * CELL[0], size[1] - EDGE[1]

    def option(text: str, box: tuple[float, float, float, float], share: float, upright: bool = False) -> None:
        x0, y0, x1, y1 = box
        if share:
            right, low = (x1, y0 + share * (y1 - y0)) if upright else (x0 + share * (x1 - x0), y1)
            draw.rectangle([x0, y0, right, low], fill=SHARE)
        draw.text(((x0 + x1) / 2, (y0 + y1) / 2), text, font=font, fill="white", anchor="mm")

    for n, (pixels, share) in enumerate(zip(SIZES, parts[0], strict=True)):
        left = EDGE[0] + n * (block + GAP)
        option(f"{pixels} px", (left, 6, left + block - 2, EDGE[1] - 6), share)
        for c, (channels, likely) in enumerate(zip(CHANNELS, parts[2], strict=True)):
            x = left + c * CELL[0]
            option(str(channels), (x, below, x + CELL[0] - 4, size[1] - 4), likely, upright=True)
    for n, (layers, share) in enumerate(zip(LAYERS, parts[1], strict=True)):
        y = EDGE[1] + n * CELL[1]
        text = say("1 layer") if layers == 1 else say("{n} layers", n=layers)
        option(text, (4, y + 2, EDGE[0] - 8, y + CELL[1] - 4), share)


def shown_table(values: np.ndarray) -> str:
    """With its values, and what they are."""
    told = html.escape(say("The reward of each network: the share of never-seen pictures it names, less its price."))
    source = drawing.source_of(drawn_table(values, told=True))
    return f'<figure class="children"><img src="{source}" alt="{told}"><figcaption>{told}</figcaption></figure>'


# ----------------------------------------------------------------------------------------------------------- the film


def new_film(found: "Frame") -> film.Film:
    """The searches of the first seed on one clock."""
    searches = found.searches[0]
    count = len(searches["random"].chosen)
    curves = {
        "best": film.curve(say("best so far"), [(found.optimum, say("the best there is"))]),
        "last": film.curve(say("mean of the last ten"), [(float(found.table.mean()), say("mean of all"))]),
    }
    title = say("bars: how likely each choice is; white: trained now; red: the best so far")
    played = film.Film([say(name) for name in WAYS.values()], count, {"table": film.picture(title, "wide")}, curves)
    updates = len(found.film) - 1
    for update in sorted({round(n * updates / MOMENTS) for n in range(MOMENTS + 1)}):
        done = min(update * pipeline.BATCH, count)
        _add(played, found, done, update)
    return played


def _add(played: film.Film, found: "Frame", done: int, update: int) -> None:
    """The moment after so many networks."""
    pictures, told, best, last = [], [], [], []
    for way in WAYS:
        search = found.searches[0][way]
        past = search.chosen[:done]
        shares = found.film[update] if way == "controller" else shares_of(past if way == "evolution" else None)
        leader = int(past[search.rewards[:done].argmax()]) if done else None
        pictures.append(drawn_table(found.table, shares, past[-pipeline.BATCH :].tolist(), leader))
        best.append(float(search.best[done - 1]) if done else None)
        last.append(float(search.rewards[max(0, done - pipeline.LAST) : done].mean()) if done else None)
        told.append(child_name(CHILDREN[leader]) if leader is not None else say("nothing trained yet"))
    if done:
        played.measure(done, best=best, last=last)
    played.frame(done, told, [""] * len(WAYS), table=pictures)


def shares_of(chosen: np.ndarray | None) -> np.ndarray:
    """(10,) how often each option is there: among the youngest networks, which evolution goes on with; evenly without
    any, and in random search."""
    some = np.arange(len(CHILDREN)) if chosen is None or not len(chosen) else chosen[-pipeline.POPULATION :]
    asked = [CHILDREN[int(place)] for place in some]
    found = []
    for decision, values in enumerate(DECISIONS.values()):
        found += [sum(child[decision] == value for child in asked) / len(asked) for value in values]
    return np.array(found)


# ------------------------------------------------------------------------------------------------------ what is shown


def present(found: "Frame") -> dict:
    """What each part shows of all seeds so far."""
    drawn = over_seeds(found, "best") + over_seeds(found, "last")
    return {
        "table": shown_table(found.table),
        "best": headline(found),
        "charts": f'<div class="charts">{drawn}</div>',
        "facts": facts(found),
    }


def headline(found: "Frame") -> str:
    def beside(what: str) -> str:
        names = ("random", "evolution")
        values = {way: f"{found.mean(way, what)[0]:.3f}" for way in names}
        return say("random search {random}, evolution {evolution}", **values)

    best, end = (found.mean("controller", what)[0] for what in ("best", "in_the_end"))
    return charts.headline(
        (
            say("{best} is the best it found", best=f"{best:.3f}"),
            say("{others}, the best there is {optimum}", others=beside("best"), optimum=f"{found.optimum:.3f}"),
        ),
        (say("{end} is what it trains in the end", end=f"{end:.3f}"), beside("in_the_end")),
    )


def over_seeds(found: "Frame", what: str) -> str:
    """Every way over all seeds, with a standard deviation around it, against the networks it has trained.

    Args:
        what: "best" so far, or the mean of the "last" ten.
    """
    lines = []
    for way, name in WAYS.items():
        rewards = np.stack([each[way].rewards for each in found.searches])
        if what == "best":
            values, steps = np.maximum.accumulate(rewards, 1), np.arange(1, rewards.shape[1] + 1)
        else:
            window = min(pipeline.LAST, rewards.shape[1])
            values = np.lib.stride_tricks.sliding_window_view(rewards, window, axis=1).mean(2)
            steps = np.arange(window, rewards.shape[1] + 1)
        some = np.unique(np.linspace(0, len(steps) - 1, 60).round().astype(int))
        mean, spread = values.mean(0)[some], values.std(0)[some]
        low, high = (mean - spread).tolist(), (mean + spread).tolist()
        lines.append(charts.Line(name=say(name), x=steps[some].tolist(), y=mean.tolist(), low=low, high=high))
    levels = {
        "best": [(found.optimum, say("the best there is"))],
        "last": [(float(found.table.mean()), say("mean of all"))],
    }
    titles = {"best": say("Best so far"), "last": say("Mean of the last ten: what it has learned to try")}
    return charts.curves(lines, say("networks trained"), say("reward"), levels=levels[what], title=titles[what])


def facts(found: "Frame") -> str:
    """Every way over all seeds, and what the table holds."""
    costs = np.array([children.multiplications(child) for child in CHILDREN])

    def row(name: str, what: str, less: float = 0.0) -> list[str]:
        cells = [found.mean(way, what) for way in WAYS]
        return [name, *(f"{abs(less - mean):.3f} ± {spread:.3f}" for mean, spread in cells)]

    spent = [np.mean([costs[each[way].chosen[-pipeline.LAST :]].mean() for each in found.searches]) for way in WAYS]
    rows = [
        row(say("Best found"), "best"),
        row(say("Below the best there is"), "best", found.optimum),
        row(say("Mean of the last ten"), "in_the_end"),
        [say("Million multiplications, last ten"), *(f"{value:.2f}" for value in spent)],
    ]
    best = int(found.table.argmax())
    told = say(
        "Means and standard deviations over {seeds} seeds. In the table: best {optimum} ({child}), median {median}, "
        "worst {worst}.",
        seeds=found.done,
        optimum=f"{found.optimum:.3f}",
        child=child_name(CHILDREN[best]),
        median=f"{np.median(found.table):.3f}",
        worst=f"{found.table.min():.3f}",
    )
    return charts.grid_table(["", *(say(name) for name in WAYS.values())], rows) + f"<p>{html.escape(told)}</p>"


def measured() -> str:
    """The recorded table."""
    return studies.table(
        "children",
        {"accuracy": (say("accuracy"), ".1%"), "multiplications": (say("million multiplications"), ".2f")},
    )


LESSON = Lesson(
    slug="architecture_search",
    title="The architect",
    chapter="games",
    claim="A search is worth what it finds beyond random search.",
    settings=ArchitectSettings,
    layout=layout,
    main=architecture_search,
    shows=("table", "film", "best", "charts", "facts", "status", "verdict", "numbers"),
    wire=wire,
    seconds=lab.LONGEST,
    tables={"Good and bad numbers": measured},
)
