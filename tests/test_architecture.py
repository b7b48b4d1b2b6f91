"""Who may import whom, read from the source: the house stays the one the folders show."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "transformers", "diffusers", "open_clip", "timm", "accelerate", "safetensors"}
# Parts that more than one method may use.
SHARED = {"errors", "settings", "sampling", "predictions", "one_core"}
SHARED |= {"registry", "hub", "loading", "vision", "painting", "interpolation", "storybook", "detailclip"}
SHARED |= {
    "groundingdino_backend",
    "fast_grounding_dino",
    "fast_unet",
    "attend_excite",
    "prompts",
    "recording",
    "presence",
    "phrases",
    "canvas",
}
SHARED |= {"crops", "small_nets", "probes"}
LEAVES = {"common", "decoding", "lessons", "drawing", "pictures", "answers", "serving", "waiting", "film"}
LEAVES |= {"seeds", "verdicts", "device"}


def imports(file: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def tops(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


@pytest.mark.parametrize("file", sorted((ROOT / "pipelines").rglob("*.py")), ids=lambda f: f.stem)
def test_pipelines_know_no_gradio(file):
    assert not tops(file) & {"gradio", "demos", "app"}


@pytest.mark.parametrize("file", sorted((ROOT / "demos").glob("*.py")), ids=lambda f: f.stem)
def test_demos_know_no_torch_and_no_other_tab(file):
    assert not tops(file) & HEAVY
    tabs = {f.stem for f in (ROOT / "demos").glob("*.py")} - LEAVES - {"__init__", file.stem}
    assert not {name.split(".")[1] for name in imports(file) if name.startswith("demos.")} & tabs


@pytest.mark.parametrize("file", sorted((ROOT / "pipelines").glob("*.py")), ids=lambda f: f.stem)
def test_methods_never_import_each_other_or_their_training(file):
    allowed = SHARED | {file.stem}
    used = {name.split(".")[1] for name in imports(file) if name.startswith("pipelines.")}
    assert used <= allowed, used - allowed


@pytest.mark.parametrize("file", sorted((ROOT / "pipelines").glob("*/*.py")), ids=lambda f: f"{f.parent.stem}-{f.stem}")
def test_lessons_of_a_tab_import_what_is_shared_and_their_neighbours(file):
    if file.parent.stem == "training":
        return
    used = {name.split(".")[1] for name in imports(file) if name.startswith("pipelines.")}
    assert used <= SHARED | {file.parent.stem}, used


def test_registry_storybook_and_drawing_are_light():
    for file in ("pipelines/registry.py", "pipelines/hub.py", "pipelines/storybook.py", "demos/drawing.py"):
        assert not tops(ROOT / file) & (HEAVY | {"gradio"}), file


def test_no_file_frightens():
    for file in [ROOT / "app.py", *(ROOT / "pipelines").rglob("*.py"), *(ROOT / "demos").glob("*.py")]:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 460, file


def test_text_is_read_and_written_alike_in_every_locale():
    """Where nothing is said, Python takes the encoding of the computer's language."""
    for file in [
        ROOT / "app.py",
        *sorted(f for part in ("pipelines", "demos", "tests") for f in (ROOT / part).rglob("*.py")),
    ]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("read_text", "write_text"):
                told = {word.arg for word in node.keywords}
                assert "encoding" in told, f"{file.name}:{node.lineno}"
