"""Pictures have the right pixels, charts the right words, and nothing that was given is changed."""

import numpy as np
import pytest
from PIL import Image

from demos.ui import charts, drawing


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).random((32, 32, 3), np.float32)


def test_enlarging_repeats_pixels(picture):
    large = np.asarray(drawing.enlarge(picture, 128))
    assert large.shape == (128, 128, 3)
    assert (large.reshape(32, 4, 32, 4, 3) == large[::4, ::4][:, None, :, None]).all()


def test_kept_patches_stay_and_removed_ones_go_dark(picture):
    kept = np.zeros((4, 4), bool)
    kept[0] = True
    before = picture.copy()
    shown = np.asarray(drawing.keep_patches(picture, kept)).astype(int)
    plain = np.asarray(drawing.enlarge(picture)).astype(int)
    quarter = len(shown) // 4
    assert np.abs(shown[1:quarter, 1 : quarter - 1] - plain[1:quarter, 1 : quarter - 1]).max() <= 1
    assert shown[quarter:].mean() < 90 and np.array_equal(picture, before)


def test_heat_shows_the_map_and_spares_what_is_not_a_number(picture):
    heat = np.full((4, 4), np.nan)
    heat[0, 0] = 1.0
    shown, plain = np.asarray(drawing.heat_over(picture, heat, 1.0)), np.asarray(drawing.enlarge(picture))
    quarter = len(shown) // 4
    assert (shown[:quarter, :quarter] == (253, 231, 37)).all()
    assert np.abs(shown[quarter:].astype(int) - plain[quarter:]).max() <= 1


def test_viridis_runs_from_dark_to_light():
    light = drawing.viridis(np.linspace(0, 1, 50)).sum(-1)
    assert (np.diff(light.astype(int)) >= -6).all() and light[-1] > 3 * light[0]


def test_frequent_ids_get_distinct_colours_and_rare_ones_grey():
    ids = np.arange(64).reshape(8, 8) // 3
    colours = drawing.palette(ids, most=10)
    assert len(set(colours.values())) == 10
    assert np.asarray(drawing.paint_ids(np.array([[999]]), colours))[0, 0].tolist() == [140, 140, 140]


def test_outline_follows_the_mask(picture):
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    image = drawing.enlarge(picture)
    changed = np.abs(np.asarray(drawing.outline(image, mask)).astype(int) - np.asarray(image)).max(-1) > 0
    large = mask.repeat(14, 0).repeat(14, 1)
    assert changed.any() and not changed[~large].any() and not changed[200:240, 200:240].any()


def test_curves_draw_each_line_and_escape_names():
    svg = charts.curves(
        [
            charts.Line(name="<b>one</b>", x=[0, 1], y=[0.2, 0.9]),
            charts.Line(name="two", x=[0, 1], y=[0.5, 0.5], low=[0.4, 0.4], high=[0.6, 0.6]),
        ],
        "x & y",
        "value",
        mark_x=0.5,
        levels=[(1.0, "ln K")],
    )
    assert svg.count("<polyline") == 2 and svg.count("<polygon") == 1
    assert "<b>" not in svg and "&lt;b&gt;one" in svg and "x &amp; y" in svg and "ln K" in svg


def test_bars_and_tables_escape_what_they_are_given():
    assert "<script" not in charts.pair_bars(["<script>"], [0.5], [2.0], ("a", "<i>b"))
    assert "<script" not in charts.facts([("<script>", "1", "2")]) + charts.grid_table(["<script>"], [["<script>"]])
    assert "width:25.0%" in charts.pair_bars(["x"], [0.5], [2.0], ("a", "b"))


def test_a_strip_holds_every_picture_and_caption():
    sheet = drawing.strip(
        [Image.new("RGB", (10, 10), c) for c in ("red", "blue")],
        ["one", "two words that are rather long " * 3],
        side=100,
    )
    assert sheet.width == 212 and sheet.height > 140
    assert sheet.getpixel((50, 50)) == (255, 0, 0) and sheet.getpixel((170, 50)) == (0, 0, 255)


def test_a_strip_keeps_the_shape_of_its_pictures():
    sheet = np.asarray(drawing.strip([Image.new("RGB", (200, 100), (255, 0, 0))], ["wide"], side=240))
    red = (sheet == (255, 0, 0)).all(-1)
    assert (red.any(1).sum(), red.any(0).sum()) == (120, 240)


def test_histogram_counts_every_guess_once():
    shown = charts.histogram([0.05, 0.06, 0.5, 0.95], "score", "guesses", 0.4, "all")
    assert shown.count('class="above"') == 2 and shown.count('class="below"') == 1 and ">2</text>" in shown


def test_labels_stay_inside_the_picture():
    frame = drawing.Frame(box=(180, 0, 200, 20), label="a very long phrase 0.99", colour=(0, 0, 255))
    drawn = np.asarray(drawing.frames(Image.new("RGB", (200, 100)), [frame], 1))
    blue = (drawn == (0, 0, 255)).all(-1)
    assert blue.any(0)[:100].any() and blue[22:38].any(), "below the box, moved to the left"


@pytest.mark.parametrize("size", [(16, 16), (17, 400), (448, 300), (449, 450), (1023, 700), (5000, 4000), (300, 18900)])
def test_a_point_of_the_shown_picture_is_the_same_place_in_the_uploaded_one(size):
    """To within one pixel of the smaller of the two, at the border and in the middle."""
    shown, scale = drawing.show(Image.new("RGB", size))
    assert shown.size == drawing.shown_size(size)
    for share in (0, 0.25, 0.5, 0.75, 1):
        found = drawing.place_in(size, (share * shown.width, share * shown.height))
        assert found == pytest.approx((share * size[0], share * size[1]), abs=0.5)
    spot = Image.new("RGB", size)
    left, top = size[0] * 2 // 3, size[1] * 2 // 3
    wide = max(1, round(2 / scale))
    spot.paste("white", (left, top, left + wide, top + wide))
    rows, columns = np.nonzero(np.asarray(drawing.show(spot)[0])[..., 0] > 100)
    x, y = drawing.place_in(size, (columns.mean() + 0.5, rows.mean() + 0.5))
    assert abs(x - left - wide / 2) <= max(1, 1 / scale) and abs(y - top - wide / 2) <= max(1, 1 / scale)
