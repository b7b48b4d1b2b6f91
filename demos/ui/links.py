"""What belongs together in several parts of a tab: pointed at in one of them it is marked in all (assets/linked.js)."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from demos.ui.text import say


@dataclass(frozen=True, kw_only=True)
class Link:
    """A row that tells of a word. It is marked together with the rows of the same word and with its boxes, those of all
    these rows where it has none of its own; and a box that is pointed at marks its row.
    """

    word: str
    boxes: Sequence[tuple[float, float, float, float]] = ()  # left, top, right, bottom: shares of the picture's sides
    pictures: Sequence[str] = ()  # ids of the parts that show them

    @property
    def attributes(self) -> str:
        """Of the row's tag."""
        told = f' class="link" tabindex="0" data-word="{html.escape(self.word)}"'
        if self.boxes:
            boxes = ";".join(" ".join(f"{side:.5f}" for side in box) for box in self.boxes)
            told += f' data-boxes="{boxes}" data-of="{" ".join(self.pictures)}"'
        return told


def patches(grid: tuple[int, ...], pictures: Sequence[str]) -> str:
    """Links the patches of pictures: one under the pointer, or of the keyboard, is marked in all.

    Args:
        grid: rows and columns.
        pictures: ids of the parts that show them.
    """
    told = html.escape(say("Patches: the arrow keys go from one to the next, Enter chooses."))
    sizes = " ".join(map(str, grid))
    return (
        f'<p class="patches" tabindex="0" role="application" aria-label="{told}" data-grid="{sizes}" '
        f'data-of="{" ".join(pictures)}">{told} <b aria-live="polite"></b></p>'
    )
