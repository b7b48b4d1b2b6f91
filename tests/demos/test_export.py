"""What is taken away: a slide that says what made it, charts that open anywhere, and a picture that opens the same."""

import json
from pathlib import Path
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from demos import reconstruction, token_removal
from demos.detection import boxes
from demos.ui import charts, export
from demos.ui.export import Panel
from demos.ui.pictures import texts_of
from pipelines.token_removal.settings import Settings
from tests.demos.served import Served, last


@pytest.fixture(scope="module")
def files(scene_file) -> list[Path]:
    told = last(Served(token_removal.LESSON)["export"](scene_file, "", 0.3, "inverse", picture="coffee"))
    return [Path(each) for each in told["files"]]


def test_a_slide_is_as_large_as_a_projector_and_carries_everything(files):
    slide, *_, data = files
    with Image.open(slide) as figure:
        assert figure.size == (1920, 1080) and figure.format == "PNG"
        record = json.loads(figure.info["patchlight"])
    assert record == json.loads(data.read_text(encoding="utf-8")) and record["settings"]["keep_ratio"] == 0.3
    assert dict(parse_qsl(record["address"])) == {
        "tab": "token_removal",
        "picture": "coffee",
        "keep_ratio": "0.3",
        "rule": "inverse",
    }


def test_what_is_written_on_it_is_what_made_it():
    numbers = {"cosine_to_full": 0.91234, "keep_mask": [[1]], "tokens_kept": 68, "model": "m", "reads": True}
    made, came, of = export.lines_of(
        token_removal.LESSON, export.settings_as_json(Settings(keep_ratio=0.3)), numbers, "coffee", "tab=token_removal"
    )
    assert "Keep ratio: 0.3" in made and "storybook-detailclip" in made and "Seed" in made
    assert "Who decides: attention, 2×2 blocks (DetailCLIP)" in made, "a choice as the page says it"
    assert came == "cosine to full 0.9123 · tokens kept 68"
    assert of == "Picture: coffee · Patchlight ?tab=token_removal"


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7])
def test_pictures_lie_beside_each_other_and_leave_the_words_alone(count):
    """Each in its own grey, on white: how many are found, none cut, none over another, none over the lines below."""
    panels = [
        Panel(picture=Image.new("RGB", (64, 64), (0, 0, 40 + 30 * i)), caption=f"part {i} " * 30, scale=("0", "1"))
        for i in range(count)
    ]
    sheet = np.asarray(export.slide(token_removal.LESSON, panels, ["a line " * 200, "another"]))
    spans = []
    for i in range(count):
        rows, columns = np.nonzero((sheet == (0, 0, 40 + 30 * i)).all(2))
        assert np.ptp(rows) == np.ptp(columns) > 150 and len(rows) == (np.ptp(rows) + 1) ** 2, "whole and square"
        assert columns.min() >= 60 and columns.max() < 1860 and rows.max() < 900
        spans.append((rows.min(), columns.min()))
    assert len(set(spans)) == count


def test_a_persian_slide_begins_at_the_right(monkeypatch):
    panels = [Panel(picture=Image.new("RGB", (64, 64), (0, 0, blue)), caption="a") for blue in (90, 150)]

    def places() -> list[tuple[int, int]]:
        sheet = np.asarray(export.slide(token_removal.LESSON, panels, ["a line"]))
        columns = [np.nonzero((sheet == (0, 0, blue)).all(2))[1] for blue in (90, 150)]
        return [(int(each.min()), int(each.max())) for each in columns]

    (first, _), (second, _) = places()
    assert first == export.MARGIN < second
    monkeypatch.setattr(export, "language", lambda: "fa")
    (_, first), (_, second) = places()
    assert first == export.WIDTH - export.MARGIN - 1 > second


def test_a_map_has_a_scale_with_its_ends():
    picture = Image.new("RGB", (64, 64), "white")
    with_scale, without = (
        np.asarray(export.slide(token_removal.LESSON, [Panel(picture=picture, caption="a", scale=scale)], []))
        for scale in (("0", "1.5 nats"), None)
    )
    dark, light = ((with_scale == colour).all(2).sum() for colour in ((68, 1, 84), (253, 231, 37)))
    assert dark > 0 and light > 0 and not (without == (68, 1, 84)).all(2).any()


def test_a_chart_opens_without_the_page():
    shown = charts.curves([charts.Line(name="a < b", x=[0, 1], y=[0, 1])], "x < y", "y", points={"A": (0.5, 0.5)})
    (chart,) = export.drawn_in(f"<p>before</p>{shown}<svg class='other'></svg>")
    root = ElementTree.fromstring(chart)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("viewBox") == "0 0 560 300"
    assert len(root.findall("{*}polyline")) == 1 and "x < y" in "".join(root.itertext())
    assert "var(" not in chart and export.drawn_in("") == []


def test_detection_gives_its_charts_along(scene_file):
    told = last(Served(boxes.LESSON)["export"](scene_file, "cat . dog"))
    kinds = [Path(each).suffix for each in told["files"]]
    assert kinds[0] == ".png" and kinds[-1] == ".json"
    for each in told["files"][1:-1]:
        assert ElementTree.fromstring(Path(each).read_text(encoding="utf-8")).get("class") == "chart"


def test_a_slide_says_where_it_opens(files):
    assert export.query_in(texts_of(str(files[0]))["patchlight"])["rule"] == "inverse"


@pytest.mark.parametrize("told", ["", "null", "[]", "{}", '{"address": 7}', '{"address": null}', "{" * 5000, "\x00"])
def test_somebody_elses_metadata_opens_nothing(told):
    assert export.query_in(told) == {}


def test_what_is_usual_is_not_in_an_address():
    assert export.query_of(reconstruction.LESSON, {"mask_ratio": 0.5}, "") == "tab=reconstruction"
    assert export.query_of(reconstruction.LESSON, {"low_resolution": True, "mask_ratio": 0.7}, "17").split("&")[:2] == [
        "tab=reconstruction",
        "picture=17",
    ]
