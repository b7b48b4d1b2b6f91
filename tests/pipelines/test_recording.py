"""Recorded runs: saved here, opened there, and every file that is none."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines.diffusion import recording
from pipelines.diffusion.attend_excite import Excited
from pipelines.diffusion.pipeline import Result, Step, Trajectory
from pipelines.diffusion.presence import Verdict
from pipelines.diffusion.prompts import Prompt, Subject, Word
from pipelines.diffusion.recording import Recording, dump, load
from pipelines.diffusion.settings import Settings
from pipelines.errors import UserError

WORDS = ("a", "cat", "and", "a", "frog")


def result_of(
    steps: int, latents: tuple[int, int, int], side: int, noise: bool = True
) -> tuple[Settings, Result, Trajectory]:
    """A run of random numbers; pictures of noise are the hardest to keep small."""
    rng = np.random.default_rng(0)
    words = tuple(Word(text=text, tokens=(n + 1,), pieces=(text,)) for n, text in enumerate(WORDS))
    subjects = (
        Subject(noun="cat", adjectives=(), word=1, tokens=(2,)),
        Subject(noun="frog", adjectives=(), word=4, tokens=(5,)),
    )

    def picture() -> Image.Image:
        coarse = rng.integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        if not noise:
            return smooth
        grain = rng.integers(-20, 20, (side, side, 3))
        return Image.fromarray((np.asarray(smooth, int) + grain).clip(0, 255).astype(np.uint8))

    def step(n: int) -> Step:
        x = [rng.standard_normal(latents).astype(np.float32) for _ in range(4)]
        attention = rng.random((1 + len(WORDS), 16, 16)).astype(np.float32) / 10
        told = Excited(peaks=(0.1, 0.2), tries=3, moved=0.05) if n % 2 else None
        names = ("noisy", "clean", "conditional", "unconditional")
        return Step(
            index=n,
            count=steps,
            time=999 - n,
            sigma=9.0 / (n + 1),
            snr=0.1 * (n + 1),
            **dict(zip(names, x, strict=True)),
            gap=1.5,
            attention=attention,
            peaks=(0.25, 0.5),
            excited=told,
            picture=None,
            seconds=0.125,
        )

    run = tuple(step(n) for n in range(steps))
    sigmas = np.linspace(0.01, 100, 1000)
    request = Settings(
        prompt="a cat and a frog", guidance_scale=7.5, sampler="ddim", steps=steps, method="attend-and-excite"
    )
    done = Result(
        picture=picture(),
        latents=x_of(run),
        prompt=Prompt(text="a cat and a frog", words=words, subjects=subjects, length=7, most=24),
        steps=run,
        start=picture(),
        sigmas=sigmas,
        seconds=1.0,
    )
    return (
        request,
        done,
        Trajectory(
            **{name: [picture() for _ in range(steps)] for name in ("noisy", "clean", "conditional", "unconditional")}
        ),
    )


def x_of(steps) -> np.ndarray:
    return steps[-1].clean


@pytest.fixture(scope="module")
def run() -> Recording:
    return recording.record(*result_of(4, (6, 16, 16), 128))


@pytest.fixture
def saved(run, tmp_path):
    path = tmp_path / "run.safetensors"
    path.write_bytes(dump(run))
    return path


def test_what_is_opened_is_what_was_saved(run, saved):
    again = load(saved)
    for name in ("settings", "words", "subjects", "subject_words", "moments", "frames", "picture", "start", "versions"):
        assert getattr(again, name) == getattr(run, name), name
    assert np.array_equal(again.latents, run.latents) and np.array_equal(again.sigmas, run.sigmas)
    error = np.abs(again.attention - run.attention).max() / run.attention.max()
    assert error <= 0.5 / 255 + 1e-6
    assert again.settings["seed"] == 42 and again.moments[1].tries == 3 and again.moments[0].tries == -1
    assert set(again.versions) == {"torch", "diffusers", "transformers"}


@pytest.mark.parametrize(
    "prompt, name",
    [
        ("A cat, and a frog!", "a-cat-and-a-frog"),
        ("猫と 🐱", "猫-と-🐱"),
        ("cafe\u0301 किताब", "cafe\u0301-किताब"),
        ("...", "run"),
        ("word " * 30, "-".join(["word"] * 8)),
        ("x" * 41, "run"),
    ],
)
def test_a_file_is_named_after_whole_words_of_any_script(run, prompt, name):
    asked = replace(run, settings=run.settings | {"prompt": prompt, "seed": 7})
    assert recording.name_of(asked) == f"patchlight-{name}-7.safetensors"


def test_a_verdict_is_kept_and_a_file_from_before_there_were_any_opens(run, tmp_path):
    told = Verdict(
        present=(True, False),
        scores=(0.9, 0.1),
        boxes=((1.0, 2.0, 30.0, 40.0), None),
        colours=(None, "red"),
        faults=("", "missing"),
    )
    path = tmp_path / "run.safetensors"
    path.write_bytes(dump(replace(run, verdict=told)))
    assert load(path).verdict == told
    data = dump(run)
    assert b'\\"verdict\\": null' in data
    path.write_bytes(data.replace(b', \\"verdict\\": null', b" " * 19))
    assert load(path).verdict is None
    for wrong in ({"faults": ("", "gone")}, {"scores": (0.9,)}, {"boxes": ((1, 2, 3), None)}, {"present": (1, 0)}):
        path.write_bytes(dump(replace(run, verdict=replace(told, **wrong))))
        with pytest.raises(UserError, match="verdict"):
            load(path)


def test_long_words_and_equal_subjects_are_opened_again(run, tmp_path):
    taken = replace(run, words=("w" * 1900, *run.words[1:]), subjects=("cat", "cat"))
    path = tmp_path / "run.safetensors"
    path.write_bytes(dump(taken))
    assert load(path).words == taken.words and load(path).names == ["cat", "cat (2)"]


def test_fifty_steps_at_512_pixels_stay_below_three_megabytes():
    taken = recording.record(*result_of(50, (4, 64, 64), 512))
    assert len(dump(taken)) < recording.MOST_BYTES
    assert all(len(frames) == 50 for frames in taken.frames.values())


def test_small_runs_keep_their_frames_sharp(run):
    import io

    assert Image.open(io.BytesIO(run.frames["clean"][0])).size == (128, 128)


def test_name_says_what_is_in_it(run):
    assert recording.name_of(run) == "patchlight-a-cat-and-a-frog-42.safetensors"
    evil = replace(run, settings={"prompt": "../../etc/passwd\x00" * 20, "seed": 1})
    assert "/" not in recording.name_of(evil) and len(recording.name_of(evil)) < 80


def tampered(run, **changes) -> bytes:
    """The file with its parameters changed, in a valid container."""
    from safetensors.numpy import load as parse
    from safetensors.numpy import save

    data = dump(run)
    (length,) = struct.unpack("<Q", data[:8])
    told = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["told"])
    tensors = parse(data)
    for name, value in changes.items():
        if name in told:
            told[name] = value
        elif value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return save(tensors, {"patchlight_run": "1", "told": json.dumps(told)})


def bad_files(run) -> dict[str, bytes]:
    good = dump(run)
    (length,) = struct.unpack("<Q", good[:8])
    moment = {name: 0 for name in ("time", "sigma", "snr", "gap", "seconds", "tries", "moved")}
    deep = b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    nan = np.full(run.latents.shape, np.nan, np.float16)
    ends = np.arange(18, dtype=np.int64)[::-1].copy()
    return {
        "empty": b"",
        "eight bytes": b"\0" * 8,
        "cut off": good[: len(good) // 2],
        "cut in the header": good[: length // 2],
        "header that claims to be huge": struct.pack("<Q", 2**63) + good[8:],
        "a picture": b"\x89PNG\r\n\x1a\n" + b"\0" * 1000,
        "a pickle": b"\x80\x04\x95" + b"\0" * 1000,
        "no header": struct.pack("<Q", 4) + b"nope" + good,
        "deep header": struct.pack("<Q", len(deep)) + deep,
        "another model": tampered(run).replace(b"patchlight_run", b"somebody_else_"),
        "another version": tampered(run).replace(b'"patchlight_run":"1"', b'"patchlight_run":"9"'),
        "no latents": tampered(run, latents=None),
        "latents that are no numbers": tampered(run, latents=nan),
        "latents of another length": tampered(run, latents=run.latents[:2]),
        "attention of other words": tampered(run, words=["a", "cat"]),
        "attention maps too large": tampered(run, attention=np.zeros((4, 6, 99, 99), np.uint8)),
        "pictures out of order": tampered(run, picture_ends=ends),
        "pictures damaged": tampered(run, pictures=np.zeros_like(np.frombuffer(good, np.uint8)[:99])),
        "no steps": tampered(run, moments=[]),
        "steps without peaks": tampered(run, moments=[moment] * 4),
        "steps with words": tampered(run, moments=[{**moment, "peaks": ["a", "b"]}] * 4),
        "sigma that json does not have": tampered(
            run, moments=[{**moment, "peaks": [0, 0], "sigma": float("nan")}] * 4
        ),
        "settings that are a list": tampered(run, settings=[]),
        "settings with a novel": tampered(run, settings={"prompt": "x" * 5000}),
        "settings that nest": tampered(run, settings={"prompt": {"a": {}}}),
        "subjects out of place": tampered(run, subject_words=[1, 99]),
    }


NAMES = list(bad_files(recording.record(*result_of(4, (6, 16, 16), 32, noise=False))))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_no_run_says_so(run, tmp_path, name):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(bad_files(run)[name])
    with pytest.raises(ValueError, match="not a run that Patchlight can open: .*Save this run"):
        load(path)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(ValueError, match="larger than 6 MB"):
        load(path)
