"""What a Space and a container need of the repository, checked without either."""

import os
import re
import subprocess
import sys
from pathlib import Path

import gradio
import pytest
import yaml

from demos import clip_synthesis, diffusion
from pipelines.models.hub import DESCRIBED
from pipelines.models.registry import MODELS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FRONT = yaml.safe_load(README.split("---\n")[1])
CONTAINER = (ROOT / ".ci" / "Containerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()


def test_the_front_matter_is_one_that_spaces_take():
    assert FRONT["sdk"] == "gradio" and FRONT["app_file"] == "app.py" and (ROOT / FRONT["app_file"]).exists()
    assert len(FRONT["short_description"]) <= 60 and FRONT["license"] == "apache-2.0"
    wanted = re.search(r"^gradio>=([\d.]+),<(\d+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M)
    assert wanted and FRONT["sdk_version"].startswith(wanted[1]) and FRONT["sdk_version"] == gradio.__version__
    assert FRONT["suggested_hardware"] in {"cpu-basic", "cpu-upgrade", "t4-small", "zero-a10g"}
    assert re.fullmatch(r"3\.1[0-3](\.\d+)?", FRONT["python_version"])


def test_what_is_fetched_at_build_is_what_the_app_would_fetch():
    """Whole models of the registry, weights as safetensors, nothing else."""
    by_source = {spec.source: spec for spec in MODELS.values() if spec.tier == "hub"}
    for line in FRONT["preload_from_hub"]:
        source, files = line.split(" ")
        spec = by_source[source]
        assert set(files.split(",")) == {spec.weights, *DESCRIBED[spec.family]}, line
        assert spec.megabytes < 1000, "a build ends after half an hour"


@pytest.mark.parametrize(
    ("seconds", "usual", "longer"),
    [
        (diffusion.drawing_seconds, diffusion.Settings(), {"steps": 100}),
        (diffusion.drawing_seconds, diffusion.Settings(), {"method": "attend-and-excite"}),
        (clip_synthesis.synthesis_seconds, clip_synthesis.Settings(), {"steps": 500}),
        (clip_synthesis.synthesis_seconds, clip_synthesis.Settings(), {"cutouts": 64}),
    ],
)
def test_a_gpu_is_borrowed_for_as_long_as_the_settings_need(seconds, usual, longer):
    """A visitor's first run asks for less than the minute that ZeroGPU lends unasked."""
    assert 10 <= seconds(usual) < 60
    assert seconds(type(usual)(**longer)) > seconds(usual)


STAND_IN = """
import inspect
asked = {}

def GPU(duration):
    def decorate(task):
        asked[f"{task.__module__}.{task.__name__}"] = duration
        return task
    return decorate
"""


def test_spaces_are_told_the_duration_of_each_call(tmp_path):
    """As a function of the call's own arguments where it depends on them."""
    (tmp_path / "spaces.py").write_text(STAND_IN, encoding="utf-8")
    code = """
import spaces
from demos import clip_synthesis, diffusion

assert spaces.asked["demos.diffusion.run"] is diffusion.drawing_seconds
assert spaces.asked["demos.clip_synthesis.run"] is clip_synthesis.synthesis_seconds
assert spaces.asked["demos.diffusion.detect"] == 60
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


READ_ONLY = """
import urllib.request
import app
from demos.ui.serving import launch_settings
page = app.build()
_, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **launch_settings(page))
assert urllib.request.urlopen(url + "healthz", timeout=60).status == 200
from PIL import Image
from demos import token_removal
assert token_removal.encode(Image.new("RGB", (64, 64), "red"), "storybook-detailclip").attention.shape[0]
page.close()
"""


def test_it_runs_where_its_home_cannot_be_written(tmp_path):
    """Nothing but the temporary folder is written to, and that only below GRADIO_TEMP_DIR."""
    moved = {"HOME": "/dev/null/home", "GRADIO_TEMP_DIR": str(tmp_path / "gradio"), "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    done = subprocess.run([sys.executable, "-c", READ_ONLY], cwd=ROOT, capture_output=True, text=True, env=kept | moved)
    assert done.returncode == 0, done.stderr


def test_the_container_runs_the_app_as_nobody_special_and_looks_after_its_health():
    assert re.search(r"^USER (?!root)\w+", CONTAINER, re.M) and "/healthz" in CONTAINER
    command = re.search(r"^CMD (\[.*\])$", CONTAINER, re.M)
    assert command and yaml.safe_load(command[1])[:2] == ["python", "app.py"]
    assert FRONT["python_version"].startswith(re.search(r"python:(3\.\d+)-", CONTAINER)[1])
    for name in re.findall(r"^COPY ([\w. ]+?) \S+$", CONTAINER, re.M):
        for each in name.split():
            assert (ROOT / each).exists() and f"!{each}" in IGNORED, each


def test_nothing_of_the_repository_besides_the_app_gets_into_the_container():
    assert IGNORED[0] == "*" and not {"!tests", "!.git"} & set(IGNORED)
