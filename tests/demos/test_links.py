"""Rows that are linked with boxes: what stands in their tags."""

from html.parser import HTMLParser

from demos.ui import charts
from demos.ui.links import Link


def test_a_row_says_its_word_and_its_boxes_whatever_the_word():
    word = 'a "cat" <b>&\''
    tag = Link(word=word, boxes=[(0, 0.25, 0.5, 1), (0.1, 0.2, 0.3, 0.4)], pictures=("a-boxes", "a-other")).attributes
    rows = []

    class Rows(HTMLParser):
        def handle_starttag(self, name, attributes):
            if name == "tr":
                rows.append(dict(attributes))

    Rows().feed(charts.grid_table(["head"], [["one"], ["two"]], [tag, ""]))
    assert rows[0] == {} and rows[2] == {}  # the head, and what is not linked
    assert rows[1]["data-word"] == word and rows[1]["data-of"] == "a-boxes a-other"
    assert rows[1]["data-boxes"] == "0.00000 0.25000 0.50000 1.00000;0.10000 0.20000 0.30000 0.40000"
    assert "data-boxes" not in Link(word="cat").attributes
