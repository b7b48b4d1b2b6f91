"""Generator and discriminator: two moments with equal losses, and the points they were made of. Wraps
pipelines/games/players.

The class may let them play first, with the points hidden: then it knows the losses it is asked about.
"""

import html
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw

from demos.ui import charts, drawing, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.games.settings import METHODS, PlayersSettings
from pipelines.games.verdicts import PLAYERS, PLAYERS_ANSWERS, of_players, players_order
from pipelines.settings import SEED_LIMIT

if TYPE_CHECKING:
    from pipelines.games.players import Frame

SIDE = 256  # pixels of a drawn cloud

pipeline = lazily("pipelines.games.players")
projection = lazily("pipelines.projection")


@on_device(seconds=lab.LONGEST)
def run(settings: PlayersSettings) -> Iterator["Frame"]:
    yield from pipeline.run(settings)


def seconds(settings: PlayersSettings) -> float:
    """What a game is expected to take on two cores."""
    critic = 0.0012 if settings.method == "gan" else 0.003
    return 1 + settings.steps * (0.0015 + critic * settings.critic_steps)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            with gr.Row():
                tab.button("play", "1 · Play, points hidden", size="md", scale=3, min_width=200)
                tab.button("next", "New seed", size="md", scale=1, min_width=110)
            lab.ask(tab, PLAYERS, PLAYERS_ANSWERS, button="2 · Show the points")
            tab.control("method")
            tab.control("meddling")
            with gr.Accordion(t("More settings"), open=False):
                for name in ("critic_steps", "rate_generator", "rate_critic", "steps", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            tab.html("twins")
            lab.answered(tab)
            tab.add("film", film.FilmPlayer(elem_id=tab.id("film")))
            tab.html("facts")
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()
    tab.state("game")


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("steps", "critic_steps"))
    tab.compute(tab["play"].click, play, LESSON.shows, seconds=LESSON.seconds)
    tab.quick(tab["next"].click, another_seed, ["seed"])
    tab.quick([*tab.chosen, tab["numbers"].change], before_the_game, ["twins"])  # the latter after Reset


# ----------------------------------------------------------------------------------------------------------- handlers


def gan(settings: PlayersSettings, guess: str | None = None, game: tuple | None = None) -> Iterator[dict]:
    """Let a generator and a discriminator play, and look at two moments at which their losses are equal.

    `game` is one that was played to its end: its settings and its frames.
    """
    guess = lab.guessed(PLAYERS_ANSWERS, guess)
    lab.affordable(seconds(settings))
    frames: list[Frame] = []
    played = None
    kept = game[1] if game and game[0] == settings else None
    for now, due in lab.paced(kept or run(settings)):
        frames.append(now)
        played = played or new_film(now, settings)
        add(played, now)
        if due and kept is None:
            yield {"status": lab.progress(now.step, now.steps), "film": played.value(), "verdict": "", "facts": ""}
    assert played is not None
    found = of_players(frames, pipeline.twins(frames), settings.seed, guess)
    yield {
        "status": "",
        "twins": headline(frames) + cards(frames, settings, hidden=False),
        "film": played.value(),
        "facts": facts(frames, settings),
        "verdict": lab.verdict(found, PLAYERS_ANSWERS),
        "numbers": pipeline.numbers(settings, frames, guess),
        "game": (settings, frames),
    }


def play(settings: PlayersSettings) -> Iterator[dict]:
    """The same game with nothing shown but the losses; it is kept, so that the points can be shown at once."""
    lab.affordable(seconds(settings))
    frames: list[Frame] = []
    shown: dict[str, object] = {"verdict": "", "facts": "", "numbers": None, "game": None}
    losses = None
    for now, due in lab.paced(run(settings)):
        frames.append(now)
        losses = losses or film.Film([say(METHODS[settings.method])], now.steps, {}, curves(now, settings, ("losses",)))
        add_losses(losses, now)
        if due:
            yield {**shown, "status": lab.progress(now.step, now.steps), "film": losses.value()}
    assert losses is not None
    yield {
        "status": say("The game is over. Choose which moment is later, then show the points."),
        "film": losses.value(),
        "twins": cards(frames, settings, hidden=True),
        "game": (settings, frames),
    }


def another_seed(seed: int) -> dict:
    return {"seed": 0 if seed >= SEED_LIMIT else seed + 1}


def before_the_game(game: tuple | None) -> dict | None:
    """Where the two moments will be."""
    if game is not None:
        return None
    told = say("The losses of this moment come here when they have played.")
    return {"twins": _cards([(name, told, "?") for name in ("A", "B")])}


# ----------------------------------------------------------------------------------------------------------- the film


def new_film(first: "Frame", settings: PlayersSettings) -> film.Film:
    """Made points among the true places, what the other player thinks of every place, and all curves."""
    kinds = np.append(np.zeros(len(first.points), np.uint8), np.ones(len(pipeline.modes()), np.uint8))
    opinion = {
        "gan": say("the discriminator: bright is true, dark is made"),
        "wgan": say("the critic: bright scores high, dark low"),
    }
    panels = {
        "points": film.points(say("made points, and the eight true places"), kinds, 2),
        "field": film.picture(opinion[settings.method]),
    }
    return film.Film(
        [say(METHODS[settings.method])], first.steps, panels, curves(first, settings, ("losses", "quality"))
    )


def curves(first: "Frame", settings: PlayersSettings, kinds: Sequence[str]) -> dict[str, dict]:
    """Of the losses with what a blind opponent costs, and of the quality with what can be reached."""
    found = {}
    if "losses" in kinds and settings.method == "gan":
        found["critic"] = film.curve(say("loss of the discriminator"), [(2 * math.log(2), say("blind: 2 ln 2"))])
        found["generator"] = film.curve(say("loss of the generator"), [(math.log(2), say("blind: ln 2"))])
    elif "losses" in kinds:
        found["critic"] = film.curve(say("loss of the critic: minus its distance"), [(0.0, say("no difference"))])
        found["generator"] = film.curve(say("loss of the generator"))
    if "quality" in kinds:
        found["distance"] = film.curve(say("distance to true points"), [(first.floor, say("two true sets"))])
        found["good"] = film.curve(say("share of good points"), ends=(0, 1))
    return found


def add_losses(played: film.Film, now: "Frame") -> None:
    """A frame without any picture."""
    played.measure(now.step, critic=[now.loss_critic], generator=[now.loss_generator])
    played.frame(now.step, [say("the points are hidden")], [""])


def add(played: film.Film, now: "Frame") -> None:
    """The next frame."""
    played.measure(now.step, critic=[now.loss_critic], generator=[now.loss_generator])
    played.measure(now.step, distance=[now.distance], good=[now.good])
    points = np.concatenate([now.points, pipeline.modes().numpy()]) / pipeline.REACH
    told = say(
        "losses {losses} · {modes} of {of} places · {good} good",
        losses=_losses(now),
        modes=now.modes,
        of=pipeline.MODES,
        good=f"{now.good:.0%}",
    )
    field = drawing.viridis(now.field / 255)
    played.frame(now.step, [told], [""], points=[projection.as_bytes(points)], field=[field])


def _losses(now: "Frame") -> str:
    return f"D {now.loss_critic:.3f}, G {now.loss_generator:.3f}"


# ------------------------------------------------------------------------------------------------------ what is shown


def cloud(now: "Frame") -> Image.Image:
    """The made points over the opponent's opinion, with a ring at each true place."""
    image = Image.fromarray(drawing.viridis(now.field / 255)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)

    def dot(place: np.ndarray, radius: float, **paint: object) -> None:
        x, y = SIDE * (place[0] / pipeline.REACH + 1) / 2, SIDE * (1 - place[1] / pipeline.REACH) / 2
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], **paint)  # type: ignore[arg-type]

    for place in now.points:
        dot(place, 1.6, fill=(255, 255, 255))
    reach = pipeline.NEAR * pipeline.SPREAD / pipeline.REACH * SIDE / 2
    for place in pipeline.modes().numpy():
        dot(place, reach, outline=(255, 80, 80), width=2)
    return image


def moments(frames: Sequence["Frame"], seed: int) -> tuple["Frame", "Frame"]:
    """A and B: the twins, or the first and the last frame where there are none."""
    pair = pipeline.twins(frames)
    a, b = (0, len(frames) - 1) if pair is None else players_order(pair, seed)
    return frames[a], frames[b]


def headline(frames: Sequence["Frame"]) -> str:
    """How different two moments with equal losses are."""
    pair = pipeline.twins(frames)
    if pair is None:
        return charts.headline((say("no twins"), say("no two moments have equal losses")))
    told = say("two moments, losses within {alike}: how far the distances to the truth are apart", alike=pipeline.ALIKE)
    return charts.headline((say("{ratio} times", ratio=f"{pair.ratio:.0f}"), told))


def cards(frames: Sequence["Frame"], settings: PlayersSettings, hidden: bool) -> str:
    """Both moments: their losses, and what was made, or nothing of it."""
    found = []
    for name, now in zip(("A", "B"), moments(frames, settings.seed), strict=True):
        told = say("losses {losses}", losses=_losses(now))
        if hidden:
            found.append((name, told, "?"))
            continue
        told += say(
            " · step {step} · {modes} of {of} places · {good} good · distance {distance}",
            step=now.step,
            modes=now.modes,
            of=pipeline.MODES,
            good=f"{now.good:.0%}",
            distance=f"{now.distance:.2f}",
        )
        alt = html.escape(say("the points of moment {name}", name=name))
        found.append((name, told, f'<img src="{drawing.source_of(cloud(now))}" alt="{alt}">'))
    return _cards(found)


def _cards(found: Sequence[tuple[str, str, str]]) -> str:
    sections = "".join(
        f"<section><header><b>{name}</b> {html.escape(told)}</header><div>{shown}</div></section>"
        for name, told, shown in found
    )
    return f'<div class="twins">{sections}</div>'


def facts(frames: Sequence["Frame"], settings: PlayersSettings) -> str:
    """The end beside the beginning, beside what chance leaves, and what the losses say of the distance."""
    first, last = frames[0], frames[-1]
    correlated = pipeline.correlations(frames)
    blind = {
        "gan": (
            say("D = 1/2 everywhere: 2 ln 2 = {n}", n=f"{2 * math.log(2):.3f}"),
            say("D = 1/2 everywhere: ln 2 = {n}", n=f"{math.log(2):.3f}"),
        ),
        "wgan": (say("a critic that sees no difference: 0"), say("of no meaning by itself")),
    }[settings.method]

    def rank(name: str) -> tuple[str, str]:
        of_all, before = correlated[f"{name}_all"], correlated[f"{name}_before_the_floor"]
        shown = ["–" if value is None else f"{value:+.2f}" for value in (of_all, before)]
        return shown[0], say("until it is near its floor: {before}; 1 would tell it, 0 tells nothing", before=shown[1])

    return charts.facts(
        [
            (say("Loss of the discriminator, at the end"), f"{last.loss_critic:.3f}", blind[0]),
            (say("Loss of the generator, at the end"), f"{last.loss_generator:.3f}", blind[1]),
            (
                say("Distance to true points"),
                f"{last.distance:.3f}",
                say(
                    "untrained {first}, two true sets {floor}", first=f"{first.distance:.3f}", floor=f"{last.floor:.3f}"
                ),
            ),
            (
                say("Places found"),
                f"{last.modes} / {pipeline.MODES}",
                say("untrained {first}", first=first.modes),
            ),
            (say("Good points"), f"{last.good:.0%}", say("untrained {first}", first=f"{first.good:.0%}")),
            (say("Rank correlation of distance and D's loss"), *rank("loss_critic")),
            (say("… and G's loss"), *rank("loss_generator")),
        ]
    )


def measured() -> str:
    """Both games over many seeds."""
    return studies.table(
        "players",
        {
            "twins": (say("twins found"), ".0%"),
            "ratio": (say("distances apart, times"), ".1f"),
            "loss_critic": (say("D's loss"), ".3f"),
            "loss_generator": (say("G's loss"), ".3f"),
            "distance": (say("distance"), ".3f"),
            "floor": (say("floor"), ".3f"),
            "good": (say("good points"), ".0%"),
            "loss_critic_all": (say("rank, D's loss"), ".2f"),
            "loss_critic_before_the_floor": (say("before the floor"), ".2f"),
            "loss_generator_all": (say("rank, G's loss"), ".2f"),
        },
    )


LESSON = Lesson(
    slug="gan",
    title="Two players",
    chapter="games",
    claim="Equal losses, other pictures: a loss reads the game, not what was made.",
    settings=PlayersSettings,
    layout=layout,
    main=gan,
    shows=("twins", "film", "facts", "status", "verdict", "game", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"Good and bad numbers": measured},
)
