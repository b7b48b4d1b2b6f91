"""A network that has seen photographs: offered where the bundled models of a tab have not, and never for a scene."""

import pytest

from demos.ui import classifier
from demos.ui.pictures import photograph
from demos.ui.scenes import UPLOADED
from pipelines.errors import UserError


@pytest.fixture(scope="module")
def coffee(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("pictures") / "coffee.png"
    photograph("coffee").save(file)
    return str(file)


@pytest.mark.parametrize("picture, offered", [("coffee", True), (UPLOADED, True), ("17", False), ("a cat", False)])
def test_it_is_offered_for_what_is_no_scene(picture, offered):
    assert classifier.offer(picture)["names_box"].visible is offered


def test_it_says_names_and_what_speaks_for_the_first(coffee):
    told = classifier.show_names(coffee)["names"]
    assert told.count("<figure><img") == 2 and "what speaks for “espresso”" in told
    assert told.count("<tr>") == 5 and "espresso" in told.split("<table>")[1]


def test_another_name_has_a_map_of_its_own(coffee):
    first, other = classifier.show_names(coffee)["names"], classifier.show_names(coffee, " Tabby ")["names"]
    assert "what speaks for “tabby”" in other
    assert first.split("<img")[1] == other.split("<img")[1] and first.split("<img")[2] != other.split("<img")[2]


def test_a_name_it_does_not_have_is_refused_beside_those_near_it(coffee):
    with pytest.raises(UserError, match=r"has no name .espreso.\. Near it: .*espresso") as told:
        classifier.show_names(coffee, "espreso")
    assert "{" not in str(told.value)
    with pytest.raises(UserError, match="Choose or upload a picture first"):
        classifier.show_names(None)
