"""A recorded run: everything a class looks at, in one file that opens on any laptop without a model.

The file is safetensors: latents, attention and pictures as tensors, parameters and numbers as JSON in its header. What
is opened is checked like any upload: a file says nothing that this module has not looked at.
"""

import io
import json
import math
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.diffusion.presence import FAULTS, Verdict
from pipelines.diffusion.settings import Settings
from pipelines.errors import UserError, require_finite
from pipelines.phrases import distinct, words_of

if TYPE_CHECKING:
    from pipelines.diffusion.pipeline import Result, Trajectory  # which import torch

FORMAT = 1
MOST_BYTES = 3_000_000  # of a file that is saved; one that is opened may have twice that
MOST_STEPS, MOST_WORDS, MOST_SIDE, MOST_CELLS = 100, 80, 1024, 1024
MOST_NAME = 40  # characters of the prompt in a file's name
TRACKS = ("noisy", "clean", "conditional", "unconditional")
# Longest side in pixels and WebP quality of the frames: the first that keeps the file below its limit.
QUALITIES = ((512, 80), (384, 70), (256, 60), (192, 50), (128, 40), (96, 30), (64, 30))
LIBRARIES = ("torch", "diffusers", "transformers")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The numbers of one step; see pipelines.diffusion.pipeline.Step."""

    time: int
    sigma: float
    snr: float
    gap: float
    seconds: float
    peaks: tuple[float, ...]  # of each subject
    tries: int  # refinements; -1 where Attend-and-Excite did nothing
    moved: float


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A run of N steps with W words and S subjects."""

    settings: dict[str, str | int | float | bool]  # what it was asked
    words: tuple[str, ...]  # W
    subjects: tuple[str, ...]  # S phrases
    subject_words: tuple[int, ...]  # S, the place of each subject's noun among the words
    moments: tuple[Moment, ...]  # N
    sigmas: np.ndarray  # (1000) float32 of the model's schedule
    latents: np.ndarray  # (N, C, rows, columns) float16, as they came into each step
    attention: np.ndarray  # (N, 1 + W, rows, columns) float32: the start token, then every word
    frames: dict[str, tuple[bytes, ...]]  # of each of TRACKS, N WebP pictures
    picture: bytes  # WebP, the result
    start: bytes  # WebP of the noised picture it began from; empty when it began from noise
    versions: dict[str, str]  # of the libraries that drew it
    verdict: Verdict | None = None  # what the detector said of the result, of S subjects; None where none could judge

    @property
    def names(self) -> list[str]:
        """Of the subjects, none of them twice: what is shown and keyed by a subject takes these."""
        return distinct(self.subjects)

    @property
    def seconds(self) -> float:
        return sum(moment.seconds for moment in self.moments)


def _coded(picture: Image.Image, side: int, quality: int) -> bytes:
    longest = max(picture.size)
    if longest > side:
        width, height = (max(1, round(x * side / longest)) for x in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=quality)
    return out.getvalue()


def record(request: Settings, result: "Result", trajectory: "Trajectory", verdict: Verdict | None = None) -> Recording:
    """What a class looks at, of a finished run."""
    asked = {k: v for k, v in asdict(replace(request, image=None)).items() if v is not None}
    moments = [
        Moment(
            time=step.time,
            sigma=step.sigma,
            snr=step.snr,
            gap=step.gap,
            seconds=step.seconds,
            peaks=step.peaks,
            tries=-1 if step.excited is None else step.excited.tries,
            moved=0.0 if step.excited is None else step.excited.moved,
        )
        for step in result.steps
    ]
    latents = np.stack([step.noisy for step in result.steps]).astype(np.float16)
    attention = np.stack([step.attention for step in result.steps]).astype(np.float32)
    picture = _coded(result.picture, MOST_SIDE, 95)
    require_finite("this run, in the precision it is saved in", "Draw it with less guidance.", latents, attention)
    room = MOST_BYTES - latents.nbytes - attention.size - len(picture) - 60_000
    for side, quality in QUALITIES:
        frames = {
            name: tuple(_coded(p, side, quality) for p in getattr(trajectory, name)[: len(moments)]) for name in TRACKS
        }
        if sum(len(each) for track in frames.values() for each in track) < room:
            break
    return Recording(
        settings=asked,
        words=tuple(word.text for word in result.prompt.words),
        subjects=tuple(subject.phrase for subject in result.prompt.subjects),
        subject_words=tuple(subject.word for subject in result.prompt.subjects),
        moments=tuple(moments),
        sigmas=result.sigmas.astype(np.float32),
        latents=latents,
        attention=attention,
        frames=frames,
        picture=picture,
        start=b"" if result.start is None else _coded(result.start, 512, 80),
        versions={name: version(name) for name in LIBRARIES},
        verdict=verdict,
    )


# ---------------------------------------------------------------------------------------------------------------- file


def dump(recording: Recording) -> bytes:
    """The file. `load(dump(r))` gives r back, but for attention, which is kept in 255 steps of each map's maximum."""
    from safetensors.numpy import save

    highest = recording.attention.max((2, 3), keepdims=True)
    levels = np.round(recording.attention / np.maximum(highest, 1e-12) * 255).astype(np.uint8)
    pieces = [*(piece for name in TRACKS for piece in recording.frames[name]), recording.picture, recording.start]
    tensors = {
        "latents": recording.latents,
        "attention": levels,
        "attention_max": highest[..., 0, 0].astype(np.float32),
        "sigmas": recording.sigmas,
        "pictures": np.frombuffer(b"".join(pieces), np.uint8),
        "picture_ends": np.cumsum([len(piece) for piece in pieces]).astype(np.int64),
    }
    told = {
        "settings": recording.settings,
        "words": recording.words,
        "subjects": recording.subjects,
        "subject_words": recording.subject_words,
        "moments": [asdict(moment) for moment in recording.moments],
        "versions": recording.versions,
        "verdict": None if recording.verdict is None else asdict(recording.verdict),
    }
    return save(tensors, {"patchlight_run": str(FORMAT), "told": json.dumps(told)})


class _Wrong(Exception):
    """What is the matter with a file."""


def _need(good: object, what: str) -> None:
    if not good:
        raise _Wrong(what)


def _number(value: Any, low: float = -1e12, high: float = 1e12) -> float:
    _need(isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high, "a number is wrong")
    return value


def _text(value: Any, most: int = 2000) -> str:
    _need(isinstance(value, str) and len(value) <= most, "a text is wrong")
    return value


def load(path: str | Path) -> Recording:
    """Open a recorded run.

    Raises:
        UserError: for a file that is no recorded run, is cut off, too large, or does not fit together; the message
            says which. Nothing of it is kept then.
    """
    path = Path(path)
    try:
        _need(path.stat().st_size <= 2 * MOST_BYTES, f"it is larger than {2 * MOST_BYTES // 10**6} MB")
        return _read(path)
    except _Wrong as wrong:
        raise UserError(
            "This is not a run that Patchlight can open: {wrong}. Open a file that was saved with 'Save this run'.",
            wrong=str(wrong),
        ) from None


def _read(path: Path) -> Recording:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            kept = file.metadata() or {}
            _need(kept.get("patchlight_run") == str(FORMAT), "it is of another kind or version")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        told = json.loads(kept["told"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        raise _Wrong("it is damaged or cut off, or no safetensors file of this app") from None
    _need(isinstance(told, dict), "its parameters are missing")
    return _checked(tensors, told)


def _tensor(tensors: dict, name: str, dtype: type, shape: tuple) -> np.ndarray:
    found: Any = tensors.get(name)
    _need(found is not None and found.dtype == dtype and found.ndim == len(shape), f"its {name} are missing")
    fits = all(want is None or have == want for have, want in zip(found.shape, shape, strict=True))
    _need(fits and found.size > 0, f"its {name} do not fit together")
    _need(dtype in (np.uint8, np.int64) or np.isfinite(found).all(), f"its {name} are no numbers")
    return found


def _list(told: dict, name: str, most: int) -> list:
    value: Any = told.get(name)
    _need(isinstance(value, list) and len(value) <= most, f"its {name} are missing")
    return value


def _checked(tensors: dict, told: dict) -> Recording:
    settings: Any = told.get("settings")
    versions: Any = told.get("versions")
    _need(isinstance(settings, dict) and isinstance(versions, dict), "its parameters are missing")
    _need(len(settings) <= 40 and len(versions) <= 10, "it has too many parameters")
    for name, value in settings.items():
        _text(name, 40)
        _text(value) if isinstance(value, str) else isinstance(value, bool) or _number(value)
    words = tuple(_text(word) for word in _list(told, "words", MOST_WORDS))
    subjects = tuple(_text(subject) for subject in _list(told, "subjects", MOST_WORDS))
    places = _list(told, "subject_words", MOST_WORDS)
    for place in places:
        _number(place, 0, len(words) - 1)
    _need(words and len(places) == len(subjects) and all(isinstance(p, int) for p in places), "its words do not fit")
    moments = tuple(_moment(entry, len(subjects)) for entry in _list(told, "moments", MOST_STEPS))
    count = len(moments)
    _need(count, "it has no steps")
    latents = _tensor(tensors, "latents", np.float16, (count, None, None, None))
    levels = _tensor(tensors, "attention", np.uint8, (count, 1 + len(words), None, None))
    _need(math.prod(levels.shape[2:]) <= MOST_CELLS, "its attention maps are too large")
    highest = _tensor(tensors, "attention_max", np.float32, levels.shape[:2])
    _need((highest >= 0).all() and (highest <= len(words) + 80).all(), "its attention is no attention")
    sigmas = _tensor(tensors, "sigmas", np.float32, (1000,))
    ends = _tensor(tensors, "picture_ends", np.int64, (len(TRACKS) * count + 2,))
    pixels = _tensor(tensors, "pictures", np.uint8, (None,)).tobytes()
    starts = np.concatenate([[0], ends[:-1]])
    _need((starts <= ends).all() and starts.min() >= 0 and ends[-1] == len(pixels), "its pictures are cut off")
    pieces = [pixels[a:b] for a, b in zip(starts, ends, strict=True)]
    *frames, picture, start = pieces
    for piece in (*frames, picture, *([start] if start else [])):
        _check_picture(piece)
    return Recording(
        settings=settings,
        words=words,
        subjects=subjects,
        subject_words=tuple(places),
        moments=moments,
        sigmas=sigmas,
        latents=latents,
        attention=levels.astype(np.float32) / 255 * highest[..., None, None],
        frames={name: tuple(frames[i * count : (i + 1) * count]) for i, name in enumerate(TRACKS)},
        picture=picture,
        start=start,
        versions={_text(name, 40): _text(value, 40) for name, value in versions.items()},
        verdict=_verdict(told.get("verdict"), len(subjects)),
    )


def _moment(entry: Any, subjects: int) -> Moment:
    names = set(Moment.__annotations__)
    _need(isinstance(entry, dict) and set(entry) == names, "a step is not complete")
    peaks = entry["peaks"]
    _need(isinstance(peaks, list) and len(peaks) == subjects, "a step is not complete")
    for name in names - {"peaks"}:
        _number(entry[name])
    return Moment(**(entry | {"peaks": tuple(_number(peak, -1, 2) for peak in peaks)}))


def _verdict(told: Any, subjects: int) -> Verdict | None:
    if told is None:  # as in files that were saved before verdicts were
        return None
    names = set(Verdict.__annotations__)
    _need(isinstance(told, dict) and set(told) == names, "its verdict is not complete")
    _need(all(isinstance(told[n], list) and len(told[n]) == subjects for n in names), "its verdict is not complete")
    _need(all(isinstance(there, bool) for there in told["present"]), "its verdict is not complete")
    _need(all(fault in ("", *FAULTS) for fault in told["faults"]), "its verdict names an unknown fault")
    for box in told["boxes"]:
        _need(box is None or (isinstance(box, list) and len(box) == 4), "a box of its verdict is wrong")
    return Verdict(
        present=tuple(told["present"]),
        scores=tuple(_number(score, 0, 1) for score in told["scores"]),
        boxes=tuple(None if box is None else _box(box) for box in told["boxes"]),
        colours=tuple(None if colour is None else _text(colour, 40) for colour in told["colours"]),
        faults=tuple(told["faults"]),
    )


def _box(corners: list) -> tuple[float, float, float, float]:
    left, top, right, bottom = (_number(corner, -MOST_SIDE, 2 * MOST_SIDE) for corner in corners)
    return left, top, right, bottom


def _check_picture(data: bytes) -> None:
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
            _need(max(picture.size) <= MOST_SIDE and getattr(picture, "n_frames", 1) == 1, "a picture is too large")
            picture.load()
    except _Wrong:
        raise
    except Exception:  # a decoder fails in as many ways as files can be broken
        raise _Wrong("a picture in it is damaged") from None


def name_of(recording: Recording) -> str:
    """A file name that says what is in it."""
    name = ""
    for word in words_of(str(recording.settings.get("prompt", ""))):
        longer = f"{name}-{word.text.lower()}".strip("-")
        if len(longer) > MOST_NAME:
            break
        name = longer
    return f"patchlight-{name or 'run'}-{recording.settings.get('seed', 0)}.safetensors"
