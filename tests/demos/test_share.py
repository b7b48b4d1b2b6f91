"""The link to what is on the screen, and its QR code."""

import re

import cv2
import numpy as np
import pytest

import app
from demos.ui import page, share
from pipelines.errors import UserError
from tests.demos.served import Served

LINK = "https://school.example/find?tab=detection&picture=a+cat+on+grass&box_threshold=0.4"


def pixels_of(told: str) -> np.ndarray:
    """The modules of an inline SVG code, eight pixels each, as a camera would see them."""
    (size,) = map(int, re.findall(r'viewBox="0 0 (\d+)', told))
    picture = np.full((size, size), 255, np.uint8)
    (path,) = re.findall(r'<path [^>]*class="qrline"[^>]*d="([^"]+)"', told)
    x = y = 0.0
    for name, values in re.findall(r"([Mmh])([-\d. ]+)", path):
        numbers = [float(v) for v in values.split()]
        if name == "h":
            picture[int(y), int(x) : int(x + numbers[0])] = 0
            x += numbers[0]
        else:
            x, y = (x * (name == "m") + numbers[0], y * (name == "m") + numbers[1])
    return np.kron(picture, np.ones((8, 8), np.uint8))


def test_a_camera_reads_the_link():
    told = share.share(LINK, "yes", None)
    text, _, _ = cv2.QRCodeDetector().detectAndDecode(pixels_of(told))
    assert text == LINK
    assert 'value="https://school.example/find?tab=detection&amp;picture=a+cat' in told and "Copied" in told


def test_the_second_press_closes_it():
    assert share.share(LINK, "", share.share(LINK, "", "")) == ""


def test_it_says_what_a_link_cannot_do():
    assert "--public" in share.share("http://127.0.0.1:7860/?tab=token_removal", "", "")
    assert "not part of the link" in share.share(LINK + "&picture=uploaded", "", "")
    assert "--public" not in share.share(LINK, "", "")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "", "file:///etc/passwd", "https://", "cat"])
def test_only_addresses_of_pages_are_shared(address):
    with pytest.raises(UserError, match="no address of a page"):
        share.share(address, "", "")


def test_too_long_an_address_is_refused():
    with pytest.raises(UserError, match="1500"):
        share.share("https://x.example/?" + "x" * 1500, "", "")


def test_an_address_is_written_as_text():
    assert "<b>" not in share.share("https://x.example/?q=<b>", "", "").split("<input")[1]


CONTROLS = {"detection": {"box_threshold": "Box threshold", "nms": "Merge boxes"}}


def test_what_a_link_can_be_without_is_what_its_tab_has():
    shown = share.choices("<div>", LINK + "&hide=nms,griffin", CONTROLS)
    assert shown.visible and shown.value == ["nms"] and [name for _, name in shown.choices] == ["box_threshold", "nms"]
    assert not share.choices("", LINK, CONTROLS).visible, "the card is closed"
    assert not share.choices("<div>", LINK.replace("detection", "griffin"), CONTROLS).visible


def test_a_link_can_be_without_what_is_offered_and_nothing_else_is_offered():
    """Else the link that the card makes would be refused where it is opened."""
    for lesson in app.LESSONS:
        tab = Served(lesson).tab
        for name in page._labels(lesson):
            assert name in tab.parts, f"{lesson.slug} has no control {name}"
