"""Measure the three readers on scenes they have never seen, and write their cards.

    python -m pipelines.evaluation.readers --write

Every reader sits the lesson's exam, 100 pictures and their captions, several times over with other scenes.
"""

import argparse

import numpy as np

from pipelines.contrast.readers import Marks, run
from pipelines.contrast.settings import READERS, ReadersSettings
from pipelines.evaluation.clip import write_between
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.training.loop import write_json

ROWS = (  # key, what it is, how it is shown
    ("scenes", "Scenes, in groups of 100", "{:,.0f}"),
    ("captions_found", "Finds the caption of a picture, 1 of 100 (chance 1 %)", "{:.1%}"),
    ("pictures_found", "Finds the picture of a caption, 1 of 100 (chance 1 %)", "{:.1%}"),
    ("captions_exact", "Says a caption that is right in everything", "{:.1%}"),
    ("noun_precision", "Of the nouns it says, right", "{:.1%}"),
    ("noun_recall", "Of the true nouns, said", "{:.1%}"),
    ("look_on_thing", "Of a noun's look, on the thing it names", "{:.1%}"),
    ("thing_of_picture", "Of the picture, that thing", "{:.1%}"),
    ("parameters", "Weights", "{:,.0f}"),
)


def figures_of(papers: list[Marks]) -> dict:
    """Of one reader's exams: means over them; nothing of what it cannot do, and no times, which are the lesson's."""
    each = [paper.figures for paper in papers]
    means = {key: round(float(np.mean([one[key] for one in each])), 4) for key in each[0] if not key.endswith("_ms")}
    return {"scenes": sum(len(paper.scores) for paper in papers), **means, "parameters": papers[0].parameters}


def card(figures: dict) -> str:
    """The measured part of a model's card; "–" for what it cannot do."""
    lines = ["| measured on never-seen scenes | |", "|---|---|"]
    for key, name, form in ROWS:
        lines.append(f"| {name} | {form.format(figures[key]) if key in figures else '–'} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=5, help="of 100 pictures each")
    parser.add_argument("--write", action="store_true", help="write quality.json and the README's table of each")
    options = parser.parse_args()
    papers: dict[str, list[Marks]] = {name: [] for name in READERS}
    for seed in range(options.exams):
        *_, last = run(ReadersSettings(pictures=100, seed=seed))
        for marks in last.marks:
            papers[marks.model].append(marks)
    for name, sat in papers.items():
        figures = figures_of(sat)
        print(f"{name}\n{card(figures)}\n")
        if options.write:
            folder = BUNDLED / MODELS[name].source
            write_json(folder / "quality.json", figures)
            write_between(folder / "README.md", "quality", card(figures))


if __name__ == "__main__":
    main()
