"""A lesson is one declaration. The page, its chapters, the endpoint, the README's table, the benchmark and the tests
find everything about it here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demos.ui.tab import Tab
    from demos.ui.tries import Try

CHAPTERS = {  # address -> title, in teaching order; the first is the page that opens
    "see": "See",
    "find": "Find",
    "make": "Make",
    "contrast": "Contrast",
    "collapse": "Collapse",
    "cues": "Cues",
    "games": "Games",
}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What the benchmark and the browser test do with a lesson's main event."""

    slider: str  # the setting whose slider is moved
    through: tuple[float, ...]  # the values it moves through, the default last
    follows: str  # the part of the page that must change with it
    besides: Mapping[str, object] = field(default_factory=dict)  # settings that the measurement needs


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One tab.

    `main` is its endpoint `/<slug>`. The parameters of a handler are the names of the parts whose values it takes;
    one called `settings` takes all settings at once, checked. It returns or yields a mapping from names of parts to
    what they show.
    """

    slug: str  # of the endpoint and the file of words; where a lesson is a chapter's only one, of its modules too
    title: str
    chapter: str  # one of CHAPTERS
    claim: str  # the one sentence that is to stay with the class
    settings: type  # of the method: a class made of `pipelines.settings.setting`
    layout: Callable[["Tab"], None]
    main: Callable
    shows: tuple[str, ...]  # the parts that `main` fills, in the endpoint's order: pictures first, numbers last
    wire: Callable[["Tab"], None]  # which events run which handlers
    seconds: float = 120  # the longest that `main` may take
    tables: Mapping[str, Callable[[], str]] = field(default_factory=dict)  # section of the words -> measured table
    measure: Measure | None = None
    tries: Sequence["Try"] = ()  # what to try, foretold

    def __post_init__(self) -> None:
        assert self.chapter in CHAPTERS, self.chapter
