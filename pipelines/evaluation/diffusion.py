"""Measure `storybook-diffusion`: does it draw what it is asked for, how often does one of two objects go missing, and
what does Attend-and-Excite change?

    python -m pipelines.evaluation.diffusion            # prints the figures
    python -m pipelines.evaluation.diffusion --write    # and writes quality.json and the model card's table

Presence is what the bundled detector says, as in the app (`presence.THERE`); and once more at its strict threshold,
where it finds only nine of ten true objects and a thing must be drawn well to count. The detector's own misses and
false alarms stand beside it. Seeds are those of the pictures' noise; no picture is chosen.

What the detector says of every picture is kept in `.checkpoints/diffusion_quality`: an interrupted measurement goes
on where it was, and another judgement of the same answers takes seconds.
"""

import argparse
import functools
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.detection import pipeline as detection
from pipelines.diffusion import pipeline as diffusion
from pipelines.diffusion import presence
from pipelines.diffusion.attend_excite import Schedule, capture_cross_attention
from pipelines.diffusion.prompts import read_with, sketch
from pipelines.diffusion.settings import Precision, Sampler
from pipelines.evaluation.clip import write_between
from pipelines.models.loading import load
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.models.text_to_image import TextToImage
from pipelines.shares import wilson
from pipelines.training import autoencoder
from pipelines.training.loop import write_json
from pipelines.world import storybook
from pipelines.world.prompts import prompt_set

NAME = "storybook-diffusion"
SINGLE_SEEDS, PAIR_SEEDS = range(10), range(4)
AT_ONCE = 8  # pictures
METHODS = ("none", "attend-and-excite")
KEPT = Path(".checkpoints/diffusion_quality")
Work = tuple[list[tuple[str, int]], str, Precision, Sampler | None]  # prompts and seeds, method, precision, sampler


@dataclass(frozen=True, kw_only=True)
class Said:
    """A detector's answer to one question; see `presence.Answer`."""

    phrases: tuple[str, ...]
    scores: np.ndarray
    boxes: np.ndarray


Answers = tuple[Said, Said | None]  # to both questions


@dataclass(frozen=True, kw_only=True)
class Outcome:
    prompt: str
    seed: int
    method: str
    verdict: presence.Verdict
    strict: presence.Verdict


def draw(
    prompts: Sequence[str], seeds: Sequence[int], method: str, precision: Precision, name: Sampler | None = None
) -> list[Image.Image]:
    """Pictures of prompts and seeds, drawn together, by the sampler of this name or else the model's usual one."""
    model = load(NAME, TextToImage)
    read = [read_with(model, prompt) for prompt in prompts]
    states = diffusion.states_of(model, [*prompts, ""])
    name = name or model.spec.sampler
    sampler = diffusion.sampler_of(model, name, model.spec.steps)
    side = model.size // model.factor
    noises = [diffusion.noises(model, seed, (side, side)) for seed in seeds]
    latents = torch.cat([next(noise) for noise in noises]).to(model.device)
    schedule = (
        Schedule(steps=model.spec.steps, sharpness=model.spec.sharpness) if method == "attend-and-excite" else None
    )
    subjects = [[subject.tokens for subject in prompt.subjects] for prompt in read]
    with capture_cross_attention(model.unet(precision), (side, side)) as attention:
        for moment in diffusion.denoise(
            model,
            states[:-1],
            states[-1:].expand(len(prompts), -1, -1),
            latents * sampler.init_noise_sigma,
            sampler,
            sampler.timesteps,
            model.spec.guidance,
            attention,
            subjects,
            schedule,
            precision,
            eta=diffusion.ETA.get(name, 0.0),
            fresh=noises,
        ):
            drawn = moment.after
    return diffusion.decode(model, drawn)


def wanted_by(prompt: str) -> list[presence.Wanted]:
    return [presence.wanted_of(subject.noun, subject.adjectives) for subject in sketch(prompt).subjects]


def asked(prompt: str, picture: Image.Image) -> Answers:
    """Both questions, as the app asks them."""
    detector = MODELS[NAME].detector
    said = presence.answers(wanted_by(prompt), detector, lambda phrases: detection.encode(picture, phrases, detector))
    things, colours = said
    return _said(things), None if colours is None else _said(colours)


def _said(answer: presence.Answer) -> Said:
    return Said(phrases=answer.phrases, scores=answer.scores, boxes=answer.boxes)


def judged(prompt: str, said: Answers) -> tuple[presence.Verdict, presence.Verdict]:
    """As the app does, and at the strict threshold."""
    strict = presence.strict_threshold(MODELS[NAME].detector)
    wanted, (things, colours) = wanted_by(prompt), said
    usual = presence.judge(wanted, things, colours, presence.THERE)
    return usual, presence.judge(wanted, things, colours, strict)


@functools.cache
def _weights() -> str:
    """Of the diffusion model and the detector: answers about other weights are not these."""
    files = [file for name in (NAME, MODELS[NAME].detector) for file in (BUNDLED / name).rglob("*.safetensors")]
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in sorted(files))).hexdigest()


def _file_of(work: Work) -> Path:
    spec = MODELS[NAME]
    told = repr((work, spec.steps, spec.guidance, spec.sampler, _weights()))
    return KEPT / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.npz"


def _keep(file: Path, said: list[Answers]) -> None:
    arrays: dict[str, Any] = {
        f"{picture} {question} {name}": np.asarray(getattr(answer, name))
        for picture, answers in enumerate(said)
        for question, answer in enumerate(answers)
        if answer is not None
        for name in ("phrases", "scores", "boxes")
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    begun = file.with_name(f"{file.stem}-{os.getpid()}.npz")  # whole or not at all
    np.savez(begun, **arrays)
    begun.replace(file)


def _kept(file: Path, count: int) -> list[Answers]:
    with np.load(file) as arrays:

        def said(picture: int, question: int) -> Said | None:
            found = [arrays.get(f"{picture} {question} {name}") for name in ("phrases", "scores", "boxes")]
            return None if found[0] is None else Said(phrases=tuple(found[0].tolist()), scores=found[1], boxes=found[2])

        kept: list[Answers] = []
        for picture in range(count):
            things = said(picture, 0)
            assert things is not None, "the first question is always asked"
            kept.append((things, said(picture, 1)))
        return kept


def outcomes(work: Work) -> list[Outcome]:
    pairs, method, precision, sampler = work
    torch.set_num_threads(1)
    file = _file_of(work)
    if not file.exists():
        pictures = draw([prompt for prompt, _ in pairs], [seed for _, seed in pairs], method, precision, sampler)
        _keep(file, [asked(prompt, picture) for (prompt, _), picture in zip(pairs, pictures, strict=True)])
    return [
        Outcome(prompt=prompt, seed=seed, method=method, verdict=verdict, strict=strict)
        for (prompt, seed), said in zip(pairs, _kept(file, len(pairs)), strict=True)
        for verdict, strict in [judged(prompt, said)]
    ]


def measure(
    pairs: list[tuple[str, int]],
    processes: int,
    precision: Precision,
    methods: Sequence[str] = METHODS,
    sampler: Sampler | None = None,
) -> list[Outcome]:
    """Outcomes of every prompt and seed under all methods."""
    parts = [pairs[i : i + AT_ONCE] for i in range(0, len(pairs), AT_ONCE)]
    work = [(part, method, precision, sampler) for part in parts for method in methods]
    with ProcessPoolExecutor(processes) as pool:
        return [outcome for found in pool.map(outcomes, work) for outcome in found]


def summary(found: list[Outcome], which: str = "verdict") -> dict:
    """Of each method: share with everything there, its 95 % interval, faults, and of the coloured things that are there
    the share that has its colour.

    Args:
        which: `verdict` or `strict`.
    """
    told = {}
    for method in METHODS:
        verdicts = [getattr(outcome, which) for outcome in found if outcome.method == method]
        count = sum(verdict.all_present for verdict in verdicts)
        coloured = [
            fault != "wrong colour"
            for verdict in verdicts
            for fault, there, colour in zip(verdict.faults, verdict.present, verdict.colours, strict=True)
            if there and colour
        ]
        told[method] = {
            "pictures": len(verdicts),
            "present": count / len(verdicts),
            "interval": wilson(count, len(verdicts)),
            "faults": Counter(verdict.fault or "none" for verdict in verdicts),
            "coloured": len(coloured),
            "colour_right": sum(coloured) / len(coloured) if coloured else None,
        }
    return told


def share(found: list[Outcome]) -> float:
    """Of pictures that strictly show everything."""
    return sum(outcome.strict.all_present for outcome in found) / len(found)


def singles() -> list[tuple[str, int]]:
    return [(storybook.article(noun), seed) for noun in storybook.NOUNS for seed in SINGLE_SEEDS]


def couples(most: int | None = None) -> list[tuple[str, int]]:
    prompts = prompt_set()
    return [
        (prompt, seed) for prompt in prompts[:: max(1, len(prompts) // (most or len(prompts)))] for seed in PAIR_SEEDS
    ]


def kind_of(prompt: str) -> str:
    nouns = [word for word in prompt.split() if word in storybook.NOUNS]
    animals = sum(noun in storybook.ANIMALS for noun in nouns)
    return {2: "two animals", 1: "animal and thing", 0: "two things"}[animals]


def card(quality: dict) -> str:
    """The model card's tables."""

    def row(name: str, told: dict) -> str:
        cells = []
        for method in METHODS:
            low, high = told[method]["interval"]
            cells.append(f"{told[method]['present']:.1%} ({low:.1%} – {high:.1%})")
        gain = 100 * (told[METHODS[1]]["present"] - told[METHODS[0]]["present"])
        return f"| {name} | {told[METHODS[0]]['pictures']} | {cells[0]} | {cells[1]} | {gain:+.1f} |"

    pairs, single = quality["pairs"], quality["single"]
    detector = json.loads((BUNDLED / MODELS[MODELS[NAME].detector].source / "quality.json").read_text(encoding="utf-8"))
    before, after = (pairs["all"][method]["faults"] for method in METHODS)
    faults = ", ".join(f"{fault} {before.get(fault, 0)} → {after.get(fault, 0)}" for fault in presence.FAULTS)
    samplers = ", ".join(f"{name.upper()} {share:.1%}" for name, share in quality["strict_by_sampler"].items())
    colours = " → ".join(f"{pairs['all'][method]['colour_right']:.1%}" for method in METHODS)
    return "\n".join(
        [
            "| prompts | pictures | everything there, plain | with Attend-and-Excite | points |",
            "|---|---|---|---|---|",
            row("one object, 24 nouns × 10 seeds", single),
            *(row(f"{name}", pairs[name]) for name in pairs if name != "all"),
            row("**276 prompts with two objects × 4 seeds**", pairs["all"]),
            row("one object, strictly", quality["strict"]["single"]),
            row("276 prompts, strictly", quality["strict"]["pairs"]),
            "",
            f"{quality['steps']} {quality['sampler'].upper()} steps, guidance {quality['guidance']:g}, "
            f"{quality['precision']}; 95 % Wilson intervals. Judge: `{MODELS[NAME].detector}` from a score of "
            f"{presence.THERE} on, where it misses {detector['missed']:.1%} of true objects and sees "
            f"{detector['alarms']:.1%} of absent ones; strictly: from {detector['threshold_at_90_recall']:.3f} on, "
            "where it finds 90 % of true objects.",
            f"What is wrong with a picture, plain → excited, of {pairs['all'][METHODS[0]]['pictures']}: {faults}.",
            f"Coloured things that are there have the colour asked for: {colours}.",
            f"One object, plain, strictly, by sampler: {samplers}.",
            f"Autoencoder: {quality['autoencoder_psnr']:.2f} dB on 1,000 never-seen scenes.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--prompts", type=int, help="about so many of the 276, evenly spread, for a first look")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    begin = time.monotonic()
    single = measure(singles(), arguments.processes, arguments.precision)
    found = measure(couples(arguments.prompts), arguments.processes, arguments.precision)
    usual = MODELS[NAME].sampler
    plain = {
        usual: [outcome for outcome in single if outcome.method == "none"],
        "ddim": measure(singles(), arguments.processes, arguments.precision, ("none",), "ddim"),
    }
    kinds = {"all": found}
    for outcome in found:
        kinds.setdefault(kind_of(outcome.prompt), []).append(outcome)
    quality = {
        "steps": MODELS[NAME].steps,
        "guidance": MODELS[NAME].guidance,
        "sampler": usual,
        "precision": arguments.precision,
        "single": summary(single),
        "pairs": {name: summary(some) for name, some in kinds.items()},
        "strict": {"single": summary(single, "strict"), "pairs": summary(found, "strict")},
        "strict_by_sampler": {name: share(some) for name, some in plain.items()},
        "autoencoder_psnr": autoencoder.quality(load(NAME, TextToImage).pipe.vae)["psnr"],
    }
    print(card(quality), f"\n{time.monotonic() - begin:.0f} s")
    if arguments.write:
        folder = BUNDLED / MODELS[NAME].source
        write_json(folder / "quality.json", quality)
        write_between(folder / "README.md", "quality", card(quality))


if __name__ == "__main__":
    main()
