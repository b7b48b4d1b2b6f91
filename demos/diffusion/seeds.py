"""How often is something missing? Pictures of many seeds, plain and with Attend-and-Excite, and the count of both."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from demos.ui import charts
from demos.ui.text import named, say
from pipelines.diffusion.presence import Verdict
from pipelines.errors import UserError
from pipelines.phrases import distinct
from pipelines.settings import SEED_LIMIT
from pipelines.shares import wilson

NAMES = ("plain", "excited")


def in_a_row(first: int, count: int) -> range:
    """So many seeds, one after another: each of them another picture.

    Raises:
        UserError: where there are not that many from the first on; the last would be counted again and again.
    """
    if first + count - 1 > SEED_LIMIT:
        raise UserError(
            say(
                "{count} seeds from {first} on go beyond the last, {last}. Choose a seed of at most {most}, or fewer.",
                count=count,
                first=first,
                last=SEED_LIMIT,
                most=SEED_LIMIT - count + 1,
            )
        )
    return range(first, first + count)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One picture of a seed."""

    picture: Image.Image
    verdict: Verdict
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What one seed gave: plain, and with Attend-and-Excite."""

    seed: int
    plain: Drawn
    excited: Drawn


def fault_of(verdict: Verdict) -> str:
    """Said of a whole picture: what is wrong, or that everything is there."""
    told = {
        "missing": say("missing"),
        "mixed": say("mixed into one"),
        "wrong colour": say("wrong colour"),
        "duplicated": say("one too many"),
    }
    return told.get(verdict.fault, say("all there"))


def _thumbnail(drawn: Drawn, alt: str) -> str:
    out = io.BytesIO()
    drawn.picture.resize((128, 128), Image.Resampling.LANCZOS).save(out, "WEBP", quality=80)
    kind = "good" if drawn.verdict.all_present else "bad"
    source = f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
    return f'<img class="{kind}" alt="{html.escape(alt)}" src="{source}">'


def strip(pairs: Sequence[Pair], subjects: Sequence[str]) -> str:
    """All seeds so far, each with its ticks, and the shares with their intervals."""
    if not pairs:
        return ""
    cells = []
    for pair in pairs:
        halves = (("plain", say("plain"), pair.plain), ("excited", say("excited"), pair.excited))
        images = "".join(_thumbnail(d, f"{name} {pair.seed}: {fault_of(d.verdict)}") for _, name, d in halves)
        ticks = "".join(f"<div>{_ticks(d.verdict, subjects)}</div>" for *_, d in halves)
        title = say("seed {seed}: plain | excited", seed=pair.seed)
        cells.append(
            f'<figure data-seed="{pair.seed}"><div class="pair">{images}</div><div class="told">{ticks}</div>'
            f"<figcaption>{html.escape(title)}</figcaption></figure>"
        )
    return f'{shares(pairs, subjects)}<div class="seeds">{"".join(cells)}</div>'


def _ticks(verdict: Verdict, subjects: Sequence[str]) -> str:
    marks = [
        f"{'✓' if there else '✗'} {html.escape(named(subject))}"
        for there, subject in zip(verdict.present, subjects, strict=True)
    ]
    fault = f"<br><em>{html.escape(fault_of(verdict))}</em>" if verdict.fault else ""
    return "<br>".join(marks) + fault


def shares(pairs: Sequence[Pair], subjects: Sequence[str]) -> str:
    """Share of the pictures that show everything, and each subject, with 95 % Wilson intervals."""
    rows = []
    for place, name in enumerate([say("all of them"), *map(named, subjects)]):
        for kind, label, colour in (("plain", say("plain"), 5), ("excited", say("excited"), 2)):
            verdicts = [getattr(pair, kind).verdict for pair in pairs]
            count = sum(v.present[place - 1] if place else v.all_present for v in verdicts)
            low, high = wilson(count, len(pairs))
            share = count / len(pairs)
            rows.append(
                f'<div class="share"><span>{html.escape(name)}, {html.escape(label)}</span><div class="track">'
                f'<i style="width:{share:.1%};background:{charts.SERIES[colour]}"></i>'
                f'<u style="inset-inline-start:{low:.1%};width:{high - low:.1%}"></u></div>'
                f"<span>{count}/{len(pairs)} = {share:.0%} ({low:.0%} – {high:.0%})</span></div>"
            )
    return f'<div class="shares">{"".join(rows)}</div>'


def numbers(pairs: Sequence[Pair], subjects: Sequence[str]) -> dict:
    """The count as JSON."""
    subjects = distinct(subjects)
    found: dict = {"seeds": [pair.seed for pair in pairs], "subjects": subjects}
    for kind in NAMES:
        verdicts = [getattr(pair, kind).verdict for pair in pairs]
        count = sum(verdict.all_present for verdict in verdicts)
        found[kind] = {
            "presence_all": count / max(1, len(pairs)),
            "interval": list(wilson(count, len(pairs))),
            "presence": {s: sum(v.present[n] for v in verdicts) / max(1, len(pairs)) for n, s in enumerate(subjects)},
            "faults": {str(pair.seed): getattr(pair, kind).verdict.fault for pair in pairs},
            "seconds": sum(getattr(pair, kind).seconds for pair in pairs),
        }
    found["cost_ratio"] = found["excited"]["seconds"] / max(1e-9, found["plain"]["seconds"])
    return found
