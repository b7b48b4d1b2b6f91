"""Record what tabs show before anyone has pressed anything: runs of the first settings, in assets/openings/.

python -m pipelines.evaluation.openings        # a minute on two cores
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.clip_synthesis import pipeline as clip_synthesis
from pipelines.clip_synthesis.settings import VIEWS
from pipelines.clip_synthesis.settings import Settings as Synthesis
from pipelines.clip_synthesis.steps import Comparison, Step
from pipelines.detection import pipeline as detection
from pipelines.diffusion import pipeline as diffusion
from pipelines.diffusion import presence, recording
from pipelines.diffusion.settings import Settings as Diffusion
from pipelines.models.registry import MODELS

FOLDER = Path(__file__).parents[2] / "assets" / "openings"


def drawn(settings: Diffusion) -> recording.Recording:
    """A run with its verdict."""
    done: Any = list(diffusion.run(settings))[-1]  # a `Result`
    wanted = [presence.wanted_of(subject.noun, subject.adjectives) for subject in done.prompt.subjects]
    judge = MODELS[settings.model].detector
    said = presence.examine(wanted, judge, lambda phrases: detection.encode(done.picture, phrases, judge))
    return recording.record(settings, done, diffusion.trajectory(done, settings.model), said)


def synthesised(settings: Synthesis) -> Comparison:
    """The same run with views and without."""
    settings = replace(settings, judge=MODELS[settings.model].scorer)
    ways: list[tuple[str, Step]] = []
    for name, augment in VIEWS.items():
        *_, last = clip_synthesis.run(replace(settings, augment=augment))
        ways.append((name, last))
    prompt = clip_synthesis.main_prompt(clip_synthesis.parse(settings.prompt))
    real = clip_synthesis.reference(prompt, settings.model, settings.judge)
    return Comparison(settings=settings, ways=tuple(ways), real=real)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "diffusion.safetensors").write_bytes(recording.dump(drawn(Diffusion())))
    (FOLDER / "clip_synthesis.json").write_text(synthesised(Synthesis()).dump() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
