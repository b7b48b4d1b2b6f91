"""What a drawn picture is told to be: boxes and verdicts, measured facts, notes, the numbers as JSON."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from demos.diffusion import seeds
from demos.diffusion.player import decibels
from demos.ui import charts, drawing
from demos.ui.text import named, say
from pipelines.diffusion import presence
from pipelines.models.registry import MODELS

if TYPE_CHECKING:
    from pipelines.diffusion.pipeline import Result, Step
    from pipelines.diffusion.recording import Recording


def progress(step: "Step") -> str:
    nudged = say(", {n} nudges", n=step.excited.tries + 1) if step.excited else ""
    return say(
        "Step {n} of {count}, {ms} ms{nudged}",
        n=step.index + 1,
        count=step.count,
        ms=round(step.seconds * 1000),
        nudged=nudged,
    )


def boxed(picture: Image.Image, verdict: presence.Verdict | None, subjects: Sequence[str]) -> Image.Image:
    """The picture with the box of every subject that was left one: solid where it counts, faint where it does not."""
    canvas, scale = drawing.show(picture)
    if verdict is None:
        return canvas
    found = [
        drawing.Frame(
            box=box,
            label=f"{named(subject)} {score:.2f}",
            colour=drawing.colour_of(place),
            style="solid" if there else "faint",
        )
        for place, (box, subject, score, there) in enumerate(
            zip(verdict.boxes, subjects, verdict.scores, verdict.present, strict=True)
        )
        if box is not None
    ]
    return drawing.frames(canvas, found, scale)


def verdict_table(said: list[tuple[str, presence.Verdict | None]], subjects: Sequence[str]) -> str:
    """A table: one row per subject, one column per picture."""
    known = [(name, verdict) for name, verdict in said if verdict is not None]
    if not known:
        return ""
    rows = []
    for place, subject in enumerate(subjects):
        cells = []
        for _, verdict in known:
            mark = "✓" if verdict.present[place] else "✗"
            fault = f", {say(verdict.faults[place])}" if verdict.faults[place] else ""
            seen = named(verdict.colours[place] or "")
            colour = f" ({seen})" if verdict.faults[place] == "wrong colour" else ""
            cells.append(f"{mark} {verdict.scores[place]:.2f}{fault}{colour}")
        rows.append([named(subject), *cells])
    head = [
        say("there from {score} on", score=f"{presence.THERE:.2f}"),
        *(name or say("the detector's score") for name, _ in said),
    ]
    return _headline(known, subjects) + charts.grid_table(head, rows)


def _headline(known: list[tuple[str, presence.Verdict]], subjects: Sequence[str]) -> str:
    """How much of what was asked for is there, by picture."""
    told = []
    for name, verdict in known:
        lost = [named(subject) for subject, there in zip(subjects, verdict.present, strict=True) if not there]
        text = say("missing: {subjects}", subjects=", ".join(lost)) if lost else say("all there")
        count = f"{sum(verdict.present)} / {len(subjects)}"
        told.append((count, f"{name}: {text}" if name else text))
    return charts.headline(*told)


def facts_of(run: "Recording", verdict: presence.Verdict | None, score: float | None) -> str:
    channels, rows, columns = run.latents.shape[1:]
    with Image.open(io.BytesIO(run.picture)) as picture:
        pixels = picture.width * picture.height * 3
    last = run.moments[-1]
    steps = len(run.moments)
    start = float(run.attention[:, 0].mean())
    told = [
        (
            say("latents"),
            f"{rows}×{columns}×{channels}",
            say("{ratio}× fewer numbers than the picture has", ratio=f"{pixels / (rows * columns * channels):.0f}"),
        ),
        (say("time"), f"{run.seconds:.1f} s", say("{ms} ms a step", ms=round(1000 * run.seconds / steps))),
        (
            say("noise"),
            f"{decibels(run.moments[0].snr):.0f} → {decibels(last.snr):.0f} dB",
            say("signal to noise, first and last step"),
        ),
        (say("attention to the start token"), f"{start:.0%}", say("the rest is shared by all words")),
    ]
    if last.peaks:
        weakest = min(range(len(run.names)), key=lambda n: max(m.peaks[n] for m in run.moments))
        peak = max(m.peaks[weakest] for m in run.moments)
        told.append(
            (
                say("weakest subject"),
                named(run.names[weakest]),
                say("its highest attention: {peak}", peak=f"{peak:.2f}"),
            )
        )
    if score is not None:
        told.append((say("CLIP score"), f"{score:.3f}", say("cosine of picture and prompt")))
    return charts.facts(told)


def cost(pairs: Sequence[seeds.Pair]) -> str:
    found = seeds.numbers(pairs, [])
    ratio = found["cost_ratio"]
    return charts.facts(
        [
            (say("cost of Attend-and-Excite"), f"{ratio:.1f}×", say("the time of plain drawing, over these seeds")),
            (
                say("seconds a picture"),
                f"{found['plain']['seconds'] / len(pairs):.1f} → {found['excited']['seconds'] / len(pairs):.1f}",
                say("plain → excited"),
            ),
        ]
    )


def note_of(model: str, done: "Result", verdict: presence.Verdict | None) -> str:
    spec = MODELS[model]
    told = [say("{name} was trained on {seen}. {notice}", name=spec.name, seen=say(spec.seen), notice=say(spec.notice))]
    if done.flagged:
        told.append(say("Its safety checker objected to the picture and made it black."))
    if verdict is None and done.prompt.subjects:
        told.append(say("No detector on this computer has words for these subjects, so there is no verdict."))
    elif verdict is not None:
        told.append(
            say(
                "Verdicts are those of {detector}, which can be wrong too: see its tab.",
                detector=spec.detector,
            )
        )
    return " ".join(told)


def versions(run: "Recording") -> str:
    return ", ".join(f"{name} {version}" for name, version in run.versions.items())


def numbers_of(run: "Recording", verdict: presence.Verdict | None, score: float | None) -> dict:
    """Everything measured, as JSON. `presence` is null without a verdict. Of equal subjects the second is called
    "cat (2)", wherever a subject is a key and in `subjects`."""
    return {
        "seed": run.settings.get("seed"),
        "steps": len(run.moments),
        "subjects": run.names,
        "presence": dict(zip(run.names, verdict.present, strict=True)) if verdict else None,
        "presence_all": verdict.all_present if verdict else None,
        "faults": dict(zip(run.names, verdict.faults, strict=True)) if verdict else None,
        "attention_peak": {
            name: max(moment.peaks[place] for moment in run.moments) for place, name in enumerate(run.names)
        },
        "clip_score": score,
        "seconds": run.seconds,
        "times": [moment.time for moment in run.moments],
        "sigmas": [moment.sigma for moment in run.moments],
        "guidance_gap": [moment.gap for moment in run.moments],
        "refinements": sum(max(0, moment.tries) for moment in run.moments),
    }
