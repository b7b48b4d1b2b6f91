"""Who may import whom, read from the source: the house stays the one the folders show."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "transformers", "diffusers", "open_clip", "timm", "accelerate", "safetensors"}
METHODS = {folder.parent.name for folder in (ROOT / "pipelines").glob("*/settings.py")}
TOGETHER = {"training", "evaluation"}  # what works on more than one method


def imports(file: Path) -> set[str]:
    """Dotted names of everything a file imports when it runs, wherever in it; a module's own name is enough for
    `lazily`, which imports it later.
    """
    found = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def tops(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


def within(part: str, names: set[str]) -> set[str]:
    """The second part of every name that begins with `part`: a module, a folder."""
    return {name.split(".")[1] for name in names if name.startswith(f"{part}.")}


def files(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).with_suffix("").as_posix()


def imported(module: str, seen: set[str]) -> None:
    """Everything of this project that importing a module imports before any function runs."""
    if module in seen:
        return
    seen.add(module)
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (node.module, *(f"{node.module}.{each.name}" for each in node.names)):
                place = ROOT / name.replace(".", "/")
                if place.is_dir() or place.with_suffix(".py").exists():
                    imported(name, seen)
                elif "." not in name and name in HEAVY:
                    seen.add(name)
            if node.module.split(".")[0] in HEAVY:
                seen.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            seen |= {each.name.split(".")[0] for each in node.names} & HEAVY


@pytest.mark.parametrize("file", files("pipelines"), ids=name_of)
def test_pipelines_know_no_gradio(file):
    assert not tops(file) & {"gradio", "demos", "app"}


@pytest.mark.parametrize("file", files("demos"), ids=name_of)
def test_demos_know_no_torch_and_no_other_tab(file):
    """Neither themselves nor through what they import; a tab knows itself, demos.ui and the pipelines' light parts."""
    assert not tops(file) & HEAVY
    own = file.relative_to(ROOT / "demos").parts[0].removesuffix(".py")
    assert within("demos", imports(file)) <= {"ui", own}
    seen: set[str] = set()
    imported(name_of(file).removesuffix("/__init__").replace("/", "."), seen)
    assert not seen & HEAVY


@pytest.mark.parametrize("file", files("pipelines"), ids=name_of)
def test_methods_never_import_each_other_or_their_training(file):
    """A method knows itself and what belongs to none; of another one its settings, torch-free as they are."""
    own = file.relative_to(ROOT / "pipelines").parts[0]
    if own in TOGETHER:
        return
    used = {name for name in imports(file) if not name.startswith(tuple(f"pipelines.{m}.settings." for m in METHODS))}
    assert not within("pipelines", used) & (METHODS | TOGETHER) - {own}


@pytest.mark.parametrize("file", files("pipelines"), ids=name_of)
def test_settings_models_and_the_world_are_light_where_they_must(file):
    if file.name in ("settings.py", "registry.py", "hub.py", "storybook.py"):
        assert not tops(file) & (HEAVY | {"gradio"})


def test_no_file_frightens():
    for file in [ROOT / "app.py", *files("pipelines"), *files("demos")]:
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
