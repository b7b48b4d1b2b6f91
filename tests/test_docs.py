"""README, registry, folders, lessons and cards agree with each other."""

import ast
import html
import json
import re
import subprocess
from pathlib import Path

import pytest

import app
from demos.ui import page
from demos.ui import words as lessons
from demos.ui.lesson import CHAPTERS
from pipelines.evaluation.classifier import card as classifier_card
from pipelines.evaluation.clip import ROWS, table
from pipelines.evaluation.clip_synthesis import table as synthesis_table
from pipelines.evaluation.detection import ROWS as DETECTION_ROWS
from pipelines.evaluation.detection import class_table
from pipelines.evaluation.diffusion import card as diffusion_card
from pipelines.evaluation.readers import card as readers_card
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.training import ablation
from pipelines.training.autoencoder import ROWS as AUTOENCODER_ROWS
from pipelines.training.detailclip import ABLATIONS
from pipelines.training.loop import write_json
from tests.benchmarks import labs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
BUNDLED_NAMES = [name for name, spec in MODELS.items() if spec.tier == "bundled"]


def test_top_level_is_the_fixed_one():
    visible = {path.split("/")[0] for path in TRACKED if not path.startswith(".")}
    assert visible == {"app.py", "demos", "pipelines", "assets", "requirements.txt", "tests", "README.md"}


def test_no_file_is_above_ten_megabytes_and_no_pickle_is_shipped():
    for path in TRACKED:
        assert (ROOT / path).stat().st_size < 10_000_000, path
        assert Path(path).suffix not in {".pt", ".pth", ".bin", ".ckpt", ".pkl"}, path


def test_file_tree_names_every_module():
    """Every file under its folder, in the order of the tree; nothing that is not there."""
    tree = re.search(r"## The files\n\n```\n(.*?)```", README, re.S)[1]
    named, folders = set(), []
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        folders = folders[: len(indent) // 2]
        if name.endswith("/"):
            folders.append(name.removesuffix("/"))
        if name.endswith((".py", "/")):
            path = "/".join(folders if name.endswith("/") else [*folders, name])
            assert (ROOT / path).exists(), f"{path} is in the tree and not on disk"
            assert line.strip() != name or path == "assets", f"{path} says nothing"
            named.add(path)
    for file in [*(ROOT / "demos").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]:
        path = file.relative_to(ROOT)
        path = path.parent if path.stem == "__init__" else path
        assert path.as_posix() in named, f"{path} is not in the README's tree"


def model_table() -> str:
    lines = ["| model | tier | licence | size | paper | trained on |", "|---|---|---|---|---|---|"]
    for spec in MODELS.values():
        source = spec.source if spec.tier != "hub" else f"[{spec.source}](https://huggingface.co/{spec.source})"
        paper = spec.paper.removeprefix("https://arxiv.org/abs/")
        cells = (
            f"`{spec.name}`: {spec.title}",
            f"{spec.tier}, {source}",
            spec.licence,
            f"{spec.megabytes} MB",
            f"[{paper}]({spec.paper})",
            spec.seen,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def lesson_table() -> str:
    """Every lesson of the app in order: what stays of it, where it opens, what a program calls."""
    lines = ["| tab | what it shows | address | endpoint |", "|---|---|---|---|"]
    for lesson in app.LESSONS:
        title, address = page.title_of(lesson, app.LESSONS), page.address_of(lesson, app.LESSONS)
        words = f"assets/lessons/{lesson.slug}.md"
        chapter = CHAPTERS[lesson.chapter]
        cells = (f"**{title}** ({chapter})", f"{lesson.claim} [Lesson]({words})", f"`/{address}`", f"`/{lesson.slug}`")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def study_table() -> str:
    """Every recorded study: of how many seeds, how long it took, and the command that makes it."""
    lines = ["| study | seeds | minutes on one core | command |", "|---|---|---|---|"]
    for file in sorted((ROOT / "assets" / "studies").glob("*.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        minutes = max(1, round(told["seconds"] / 60))
        lines.append(f"| {told['study']} | {len(told['seeds'])} | {minutes} | `{told['command']}` |")
    return "\n".join(lines)


TABLES = {
    "tabs": lesson_table,
    "models": model_table,
    "studies": study_table,
}  # by their marks


def between(mark: str) -> re.Pattern:
    return re.compile(rf"(?<=<!-- {mark} -->\n).*?(?=\n<!-- /{mark} -->)", re.S)


@pytest.mark.parametrize("mark", TABLES)
def test_tables_are_those_of_the_lessons_and_the_registry(mark):
    shown = between(mark).search(README)
    assert shown and shown[0] == TABLES[mark](), "refresh them: python -m tests.test_docs"


def test_seconds_are_told_of_every_lab():
    shown = between("labs").search(README)
    assert shown is not None
    told = [line.split(" | ")[0].removeprefix("| ") for line in shown[0].splitlines()[2:]]
    assert told == [lesson.title for lesson in labs.LABS], "python -m tests.benchmarks labs --write"


def test_every_tab_has_a_lesson_that_says_what_a_lesson_must():
    for lesson in app.LESSONS:
        text = (ROOT / "assets" / "lessons" / f"{lesson.slug}.md").read_text(encoding="utf-8")
        for heading in (
            "The idea in 60 seconds",
            "What to try",
            "The formula",
            "Good and bad numbers",
            "What breaks if it is removed",
            "Where it comes from",
        ):
            assert f"\n## {heading}\n" in text, (lesson.slug, heading)
        assert "arxiv.org" in text and not set("{}") & set(text), "braces break Gradio's translation keys"


def rows_of(name: str) -> tuple[tuple[str, str, str], ...]:
    return {"grounding_dino": DETECTION_ROWS, "autoencoder": AUTOENCODER_ROWS}.get(MODELS[name].family, ROWS)


def test_every_model_has_its_card_with_measured_figures():
    for name in BUNDLED_NAMES:
        folder = BUNDLED / name
        card, figures = (
            (folder / "README.md").read_text(encoding="utf-8"),
            json.loads((folder / "quality.json").read_text(encoding="utf-8")),
        )
        family = MODELS[name].family
        cards = {"stable_diffusion": diffusion_card, "classifier": classifier_card, "reader": readers_card}
        shown = cards[family](figures) if family in cards else table(figures, rows_of(name))
        assert shown in card, "python -m pipelines.evaluation.clip --write"
        for word in ("python -m pipelines.training", "seed", "Apache"):
            assert word in card, (name, word)


FLOORS = {  # below these the lessons are no longer true
    "storybook-detailclip": {
        "naming": 0.97,
        "retrieval_image_to_text": 0.95,
        "object_patches_kept": 0.92,
        "cosine_kept_to_full": 0.95,
        "entropy_of_mean_patch": 0.7,
        "entropy_of_mean_cls": 0.7,
        "prototypes_used": 0.2,
    },
    "storybook-clip-b": {"naming": 0.97, "retrieval_image_to_text": 0.97},
    "storybook-autoencoder": {"psnr": 28},
    "storybook-grounding-dino": {"ap50": 0.97, "ap50_95": 0.85, "colour_ap50_seen": 0.95, "colour_ap50_unseen": 0.9},
}


@pytest.mark.parametrize("name", FLOORS)
def test_cards_meet_their_floors(name):
    figures = json.loads((BUNDLED / name / "quality.json").read_text(encoding="utf-8"))
    assert figures["scenes"] >= 1000 and set(figures) - {"scenes", "classes"} <= {row[0] for row in rows_of(name)}
    for key, floor in FLOORS[name].items():
        assert figures[key] >= floor, key
    if name == "storybook-grounding-dino":
        card = (BUNDLED / name / "README.md").read_text(encoding="utf-8")
        assert figures["false_alarms"] <= 0.05 and class_table(figures["classes"]) in card
    if name == "storybook-detailclip":
        assert figures["retrieval_image_to_text"] - figures["retrieval_kept_half"] <= 0.02
        assert figures["psnr_attention"] > figures["psnr_attention_neighbours"] + 5
        assert figures["psnr_random"] > figures["psnr_random_neighbours"] + 3
        assert figures["psnr_random"] > figures["psnr_random_nearest"] + 4.7
        assert figures["psnr_random"] > figures["psnr_random_blind"] + 0.6, "it uses its tokens"
        assert all(figures[f"psnr_low_{f}"] > figures[f"psnr_low_{f}_bicubic"] for f in (2, 4))
        assert 0.45 <= figures["object_patches_kept_random"] <= 0.6


def test_what_goes_missing_was_counted_over_the_whole_prompt_set():
    figures = json.loads((BUNDLED / "storybook-diffusion" / "quality.json").read_text(encoding="utf-8"))
    plain, excited = (figures["pairs"]["all"][method] for method in ("none", "attend-and-excite"))
    alone, nudged = (figures["strict"]["single"][method] for method in ("none", "attend-and-excite"))
    assert plain["pictures"] == excited["pictures"] == 276 * 4 and alone["pictures"] == 240
    assert excited["present"] >= plain["present"] + 0.15 and excited["interval"][0] > plain["interval"][1]
    assert alone["present"] >= 0.9 and nudged["present"] >= alone["present"] - 0.05
    assert figures["autoencoder_psnr"] >= 28
    for told in (plain, excited):
        assert sum(told["faults"].values()) == told["pictures"] and 0 <= told["colour_right"] <= 1


def test_lessons_show_the_measured_tables_of_their_own_tab():
    """Each figure as the command wrote it beside the model, and nobody else's table."""
    for lesson in app.LESSONS:
        tab, shown = lesson.slug, lesson.tables.get("Good and bad numbers")
        assert (shown is lessons.missing_table) == (tab == "diffusion"), tab
        shown = lesson.tables.get("What breaks if it is removed")
        assert (shown is lessons.synthesis_table) == (tab == "clip_synthesis"), tab
        assert tab in ("self_distillation", "token_removal", "reconstruction") or shown is not lessons.ablation_table
    made, text = json.loads(lessons.SYNTHESIS.read_text(encoding="utf-8")), html.unescape(lessons.synthesis_table())
    assert synthesis_table(made) in README
    for row in made["rows"]:
        assert f"<td>{row['way']}</td><td>{row['rank']:g}</td><td>{row['similarity']:.3f}</td>" in text


def test_missing_objects_are_shown_as_counted(tmp_path, monkeypatch):
    told = {"none": {"pictures": 8, "present": 0.5, "interval": [0.22, 0.78]}}
    told["attend-and-excite"] = told["none"] | {"present": 0.75, "interval": [0.41, 0.93]}
    found = {"steps": 20, "guidance": 7.5, "single": told, "pairs": {"two animals": told}}
    write_json(tmp_path / "quality.json", found)
    monkeypatch.setattr(lessons, "MISSING", tmp_path / "quality.json")
    text = lessons.missing_table()
    assert text.count("50% (22% – 78%)") == text.count("75% (41% – 93%)") == 2 and "two animals" in text


def test_synthesis_meets_its_floors():
    """20 prompts and 3 seeds: the CLIP that was not followed, a blur, and the detector."""
    found = json.loads(lessons.SYNTHESIS.read_text(encoding="utf-8"))
    (ours,) = (row for row in found["rows"] if row["default"])
    (raw,) = (row for row in found["rows"] if row["way"] == "raw pixels, without views")
    assert found["prompts"] >= 20 and found["seeds"] >= 3
    assert ours["rank"] <= 3 < raw["rank"] and ours["after_blur"] >= 0.9
    assert ours["interval"][0] > raw["interval"][1]


def test_ablation_is_shown_as_measured(tmp_path, monkeypatch):
    """The command's file is what the lessons and the card show; no figure is made up for a run that is not there."""
    rows = [
        {"run": run, "naming": 0.5 + i / 100, "retrieval": 0.6, "segmentation_miou": 0.123 + i / 10}
        | {"psnr": None if run == "no-reconstruction" else 21.5, "psnr_neighbours": 20.25, "images_per_second": 30 + i}
        for i, run in enumerate(ABLATIONS)
    ]
    found = {"steps": 77, "scenes": 1234, "rows": rows}
    write_json(tmp_path / "ablation.json", found)
    monkeypatch.setattr(lessons, "ABLATION", tmp_path / "ablation.json")
    shown, card = lessons.ablation_table(), ablation.table(found)
    assert list(ABLATIONS) == list(lessons.RUNS) and "77 steps" in shown and "1,234" in shown and "77 steps" in card
    for row in rows:
        for text in (f"{row['naming']:.1%}", f"{row['segmentation_miou']:.3f}", str(row["images_per_second"])):
            assert text in shown and text in card, (row, text)
    assert shown.count("21.5") == card.count("21.50") == 3


def test_lessons_say_of_the_ablation_what_it_measured():
    """Their sentences on the runs below them: leaving out costs no words; removal buys time, and reconstruction."""
    rows = {row["run"]: row for row in json.loads(lessons.ABLATION.read_text(encoding="utf-8"))["rows"]}
    full, no_removal = rows["full"], rows["no-removal"]
    assert all(abs(row[of] - full[of]) < 0.04 for row in rows.values() for of in ("naming", "retrieval"))
    assert no_removal["images_per_second"] < 0.9 * full["images_per_second"]
    assert no_removal["psnr"] < full["psnr"] - 3 and rows["no-reconstruction"]["psnr"] is None


def test_requirements_say_why_they_have_an_upper_bound():
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and "<" in line.split("#")[0]:
            assert "#" in line, line


def names_in(file: Path) -> set[str]:
    """Functions, classes, their methods and constants of a module."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {each.id for each in targets if isinstance(each, ast.Name)}
    return found


def test_where_is_what_names_what_is_there():
    rows = (ROOT / "pipelines" / "README.md").read_text(encoding="utf-8").splitlines()[6:]
    assert len(rows) >= 20
    for row in rows:
        _, question, places, names, _ = (cell.strip() for cell in row.split("|"))
        files = [ROOT / path for path in re.findall(r"`([^`]+)`", places) if "<" not in path]
        known = set().union(*map(names_in, files))
        assert question.endswith("?") and set(re.findall(r"`([^`]+)`", names)) <= known, row


def test_links_to_files_lead_somewhere():
    for document in [ROOT / "README.md", *(ROOT / "assets").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} -> {target}"


def test_nothing_tells_where_it_was_made():
    for path in TRACKED:
        file = ROOT / path
        if (
            file.suffix in {".py", ".md", ".txt", ".css", ".json", ".toml", ".ini", ""}
            and file.stat().st_size < 500_000
        ):
            text = file.read_text(encoding="utf-8", errors="ignore")
            assert not re.search(r"/(?:home|root|work|Users)/\w", text.replace('"/root"', "")) or path.startswith(
                "tests/"
            ), path


def refresh() -> None:
    """Write the README's tables anew."""
    text = README
    for mark, made in TABLES.items():
        text = between(mark).sub(made().replace("\\", "\\\\"), text)
    (ROOT / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    refresh()
