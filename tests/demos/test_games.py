"""The chapter Games as a page and a program get it: short games. The mathematics is tested in tests/pipelines."""

import base64
import json

import gradio as gr
import numpy as np
import pytest

from demos.games import LESSONS, architect, players
from demos.ui import studies
from pipelines.games import architect as searches
from pipelines.games import children
from pipelines.games import players as pipeline
from pipelines.games.settings import CHILDREN, ArchitectSettings, PlayersSettings
from pipelines.training import studies as training
from tests.demos.served import Served, last

SHORT = PlayersSettings(steps=300)


def shown(steps) -> dict:
    """All parts at the end, each as it was last filled; what a lesson must answer with is checked."""
    whole: dict = {}
    for step in steps:
        whole |= step
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(whole["numbers"]) and whole["status"] == ""
    json.dumps({"film": whole.get("film"), "numbers": whole["numbers"]}, allow_nan=False)
    return whole


@pytest.fixture(scope="module")
def hidden() -> dict:
    """A short game, played with its points hidden."""
    whole: dict = {}
    for step in players.play(SHORT):
        whole |= step
    return whole


# ---------------------------------------------------------------------------------------------------------- two players


def test_a_game_is_played_with_its_points_hidden(hidden):
    film = hidden["film"]
    assert film["steps"] == [0, 100, 200, 300] and film["panels"] == {} and len(film["curves"]) == 2
    assert [name for _, name in film["curves"][0]["levels"]] == ["blind: 2 ln 2"]
    assert "<img" not in hidden["twins"] and hidden["twins"].count("losses ") == 2 and hidden["verdict"] == ""
    assert "step" not in hidden["twins"], "the step would be the answer"
    settings, frames = hidden["game"]
    assert settings == SHORT and len(frames) == 4


def test_the_points_of_a_kept_game_are_shown_without_playing_again(hidden, monkeypatch):
    def again(settings):
        raise AssertionError("it was played already")

    monkeypatch.setattr(players, "run", again)
    told = shown(players.gan(SHORT, "a", hidden["game"]))
    assert told["numbers"]["verdict"]["guess"] == "a" and told["numbers"]["verdict"]["text"] in told["verdict"]
    assert told["twins"].count("<img") == 2 and told["twins"].count("step ") == 2
    readings = [line.split(" ·")[0].split("</b> ")[-1] for line in told["twins"].split("<header>")[1:]]
    assert all(reading in hidden["twins"] for reading in readings), "the readings that were asked about"
    with pytest.raises(AssertionError, match="played already"):
        last(players.gan(PlayersSettings(steps=200), "a", hidden["game"]))


def test_a_game_is_played_and_shown_in_a_film(hidden):
    first, *_, told = players.gan(SHORT, "b")
    film, numbers = told["film"], told["numbers"]
    assert first["film"]["steps"] == [0] and first["verdict"] == ""
    points = np.frombuffer(base64.b64decode(film["panels"]["points"][-1][0]), np.uint8)
    assert points.shape == (2 * (pipeline.SHOWN + pipeline.MODES),) and len(film["curves"]) == 4
    assert film["panels"]["field"][-1][0].startswith("data:image/webp")
    assert "2 ln 2 = 1.386" in told["facts"] and "ln 2 = 0.693" in told["facts"] and "two true sets" in told["facts"]
    assert f"{numbers['distance']:.3f}" in told["facts"] and "untrained" in told["facts"]
    assert told["game"][0] == SHORT and len(told["game"][1]) == 4
    assert numbers["distance"] == hidden["game"][1][-1].distance, "the same seed, the same game"


def test_a_critic_is_told_as_what_it_is():
    told = shown(players.gan(PlayersSettings(method="wgan", steps=100)))
    assert "critic" in told["film"]["curves"][0]["title"] and "sees no difference: 0" in told["facts"]
    assert "2 ln 2" not in told["facts"] and told["film"]["runs"] == ["WGAN with gradient penalty"]


def test_without_twins_the_beginning_stands_beside_the_end(hidden, monkeypatch):
    monkeypatch.setattr(pipeline, "ALIKE", -1.0)
    told = shown(players.gan(SHORT, "b", hidden["game"]))
    assert "no twins" in told["twins"] and "step 0 " in told["twins"] and "step 300 " in told["twins"]
    assert "You were right: B." in told["verdict"]


def test_places_are_drawn_where_they_are(hidden):
    frame = hidden["game"][1][0]
    pixels = np.asarray(players.cloud(frame)).astype(int)
    ring = (
        players.SIDE * (1 / pipeline.REACH + 1) / 2
        + pipeline.NEAR * pipeline.SPREAD / pipeline.REACH * players.SIDE / 2
    )
    assert (np.abs(pixels[players.SIDE // 2, round(ring) - 2 : round(ring) + 1] - (255, 80, 80)).sum(1) == 0).any()


def test_seeds_end_where_they_end():
    assert players.another_seed(42) == {"seed": 43} and players.another_seed(2**31 - 1) == {"seed": 0}
    assert "?" in players.before_the_game(None)["twins"] and players.before_the_game((SHORT, [])) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"steps": 50}, "Steps must be a number from 100 to 12000, not 50"),
        ({"rate_critic": float("nan")}, "Learning rate of the discriminator must be a number"),
        ({"method": "vae"}, "Game must be one of 'gan', 'wgan'"),
        ({"steps": 12000, "critic_steps": 10, "method": "wgan"}, "would take about . minutes; at most 5"),
    ],
)
def test_a_game_that_cannot_be_is_refused_in_words(given, told):
    lesson = Served(players.LESSON)
    for handler in ("gan", "play"):
        values = {name: setting.default for name, setting in lesson.tab.settings.items()} | given
        with pytest.raises(gr.Error, match=told):
            last(lesson[handler](*values.values()))


def test_leaving_ends_the_game():
    run = players.gan(PlayersSettings(steps=12000))
    next(run)
    run.close()


# -------------------------------------------------------------------------------------------------------- the architect

FEW = ArchitectSettings(children=40, seeds=2)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    """Accuracies of which the last is the best."""
    return np.linspace(0.1, 0.7, len(CHILDREN))


def test_three_ways_are_searched_on_one_clock(table):
    told = shown(architect.architecture_search(FEW, "policy", table))
    film, numbers = told["film"], told["numbers"]
    assert film["runs"] == ["A · controller", "B · random search", "C · evolution"] and film["steps"][-1] == 40
    assert film["steps"][0] == 0 and film["told"][0] == ["nothing trained yet"] * 3
    assert all(source.startswith("data:image/webp") for source in film["panels"]["table"][-1])
    assert [curve["levels"][0][0] for curve in film["curves"]][0] == pytest.approx(0.7)
    assert numbers["own_table"] and numbers["optimum"] == pytest.approx(0.7) and numbers["verdict"]["guess"] == "policy"
    for way, name in (("controller", "controller"), ("random", "baseline"), ("evolution", "evolution")):
        assert f"{numbers[name]['best']:.3f} ± {numbers[name]['best_spread']:.3f}" in told["facts"], way
    assert f"{numbers['baseline']['best']:.3f}" in told["best"] and "random search" in told["best"]
    assert told["charts"].count("<polygon") == 6, "a band around each line"


def test_the_recorded_table_is_what_a_search_opens_on():
    before = architect.preview(None, None)["table"]
    assert before.startswith('<figure class="children"><img src="data:image/webp') and "never-seen" in before
    assert architect.preview(None, {"seed": 1}) is None
    assert architect.back_to_recorded()["table"] == before


def test_a_price_is_taken_off():
    free, dear = (last(architect.architecture_search(ArchitectSettings(children=8, seeds=1, price=p))) for p in (0, 1))
    assert free["numbers"]["own_table"] is False and dear["numbers"]["worst"] < -1 < 0 < free["numbers"]["worst"]
    assert free["table"] != dear["table"]


def test_bars_are_how_likely_each_choice_is():
    even = architect.shares_of(None)
    assert even == pytest.approx([1 / 3] * 3 + [1 / 4] * 4 + [1 / 3] * 3)
    old, young = [0] * 20, [len(CHILDREN) - 1] * searches.POPULATION
    assert architect.shares_of(np.array(old + young)).tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0, 1]


def test_the_table_is_drawn_where_its_networks_are():
    values = np.full(len(CHILDREN), np.nan)
    values[[0, -1]] = 0, 1
    pixels = np.asarray(architect.drawn_table(values))
    (x0, y0), (x1, y1), (x2, y2) = (architect._corner(place) for place in (0, len(CHILDREN) - 1, 5))
    assert pixels[y0 + 9, x0 + 9].tolist() == [68, 1, 84] and pixels[y1 + 9, x1 + 9].tolist() == [253, 231, 37]
    assert pixels[y2 + 9, x2 + 9].tolist() == list(architect.GROUND), "not known yet"


def test_a_class_makes_its_own_table(monkeypatch):
    """Every network is trained, as the pipeline does it; here by a stand-in that is done at once."""

    def trained(seed: int, steps: int):
        yield children.Preparing(done=5, of=9)
        for n, child in enumerate(CHILDREN):
            yield children.Step(child=child, step=steps, steps=steps, loss=1.0, right=n / 100 + steps, seconds=0.0)

    monkeypatch.setattr(architect, "train_all", trained)
    first, *steps, told = architect.make_table(1, 3)
    assert "seconds" not in first["making"] and first["own"] is None and "Drawing the pictures" in steps[0]["making"]
    assert told["own"].tolist() == [n / 100 + 3 for n in range(36)] and steps[-1]["making"] == "36 of 36 trained"
    assert "48 px, 4 layers, 32 channels" in told["making"]


@pytest.mark.parametrize(
    ("handler", "given", "told"),
    [
        ("architecture_search", {"children": 7}, "Children must be a number from 8 to 400, not 7"),
        ("architecture_search", {"price": float("nan")}, "Price of computing must be a number from 0 to 1, not nan"),
        ("architecture_search", {"baseline": "yes"}, "true or false"),
        ("make_table", {"table_steps": 0}, "Steps must be a number from 1 to 300, not 0"),
        ("make_table", {"table_steps": 300}, "would take about . minutes; at most 5"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_words(handler, given, told):
    values = {"seed": 42, "table_steps": 15} | given if handler == "make_table" else given
    with pytest.raises(gr.Error, match=told):
        last(Served(architect.LESSON)[handler](**values))


def test_the_question_follows_what_is_set():
    asked = architect.ask_again(ArchitectSettings(children=12))["guess"].label
    assert asked == "12 networks for each: does the controller beat random search?"


# ------------------------------------------------------------------------------------------------------------ all of it


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_every_lesson_refuses_an_answer_that_is_none(lesson):
    with pytest.raises(gr.Error, match="The answer must be one of"):
        last(Served(lesson)[lesson.slug](guess="nobody"))


def test_recorded_games_are_shown_with_their_spread(tmp_path, monkeypatch):
    """As the command writes them; without a file nothing is said."""
    monkeypatch.setattr(studies, "FOLDER", tmp_path)
    assert players.measured() == ""
    rows = {"gan": {"twins": 1.0, "ratio": 8.0, "loss_critic_all": None}, "wgan": {"twins": 0.0, "ratio": None}}
    runs = [{"seed": 0, "seconds": 90.0, "rows": {name: rows["gan"] | row for name, row in rows.items()}}]
    (tmp_path / "players.json").write_text(json.dumps(training.record("players", runs)), encoding="utf-8")
    told = players.measured()
    assert "8.0" in told and "–" in told and "100%" in told
