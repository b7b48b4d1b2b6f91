"""The page around the tabs: their order, what may run at once, what is closed, what it takes to come."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import app
from demos import token_removal

ROOT = Path(__file__).parents[1]


def test_tabs_stand_in_teaching_order():
    assert [lesson.slug for lesson in app.LESSONS] == [
        "self_distillation",
        "token_removal",
        "reconstruction",
        "detection",
        "zero_shot_masks",
        "threshold",
        "diffusion",
        "clip_synthesis",
        "contrast",
        "information_bound",
        "negatives",
        "readers",
        "word_vectors",
        "collapse",
        "batch_and_views",
        "crops",
        "pretext",
        "greedy",
        "packing",
        "texture_shape",
        "scramble",
        "equivariance",
        "universal",
        "transfer",
        "gan",
        "architecture_search",
    ]


def test_all_that_computes_takes_turns_and_names_are_unique():
    page = app.build()
    names = [fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"]
    assert len(names) == len(set(names)) and {lesson.slug for lesson in app.LESSONS} <= set(names)
    for fn in page.fns.values():
        if fn.api_visibility == "public":
            assert (fn.concurrency_id, fn.concurrency_limit) == ("compute", None), fn.api_name


def test_every_event_that_computes_can_be_stopped():
    page = app.build()
    stopped = {target for fn in page.fns.values() for target in fn.cancels}
    opening = {fn._id for fn in page.fns.values() if any(event == "load" for _, event in fn.targets)}
    for fn in page.fns.values():
        if fn.concurrency_id == "compute" and fn._id not in opening:
            assert fn._id in stopped, (fn.api_name, fn.targets)


def test_menus_fit_the_model_that_is_chosen_first():
    from pipelines.token_removal.pipeline import layers_and_heads

    assert layers_and_heads("storybook-detailclip") == (token_removal.LAYERS, token_removal.HEADS)


def get(url: str) -> tuple[int, dict, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_closed_by_default(app_url):
    for path in (
        "monitoring",
        "openapi.json",
        "docs",
        "pwa_icon/64",
        "gradio_api/file=https://example.com/a.png",
        "gradio_api/file=/etc/passwd",
        "gradio_api/proxy=https://example.com",
    ):
        assert get(app_url + path)[0] in (403, 404), path


def test_headers_and_health(app_url):
    status, headers, body = get(app_url + "healthz")
    assert status == 200 and json.loads(body)["ok"]
    headers = {name.lower(): value for name, value in headers.items()}
    assert "default-src 'self'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"


def test_a_picture_that_is_being_fetched_is_not_written_again(tmp_path, scene_image):
    from gradio import processing_utils

    path = Path(processing_utils.save_pil_to_cache(scene_image, str(tmp_path), format="png"))
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(scene_image)) and len(list(tmp_path.rglob("*"))) == 2
    path.write_bytes(b"being fetched")
    assert processing_utils.save_pil_to_cache(scene_image, str(tmp_path), format="png") == str(path)
    assert path.read_bytes() == b"being fetched"


def test_large_bodies_are_refused(app_url):
    request = urllib.request.Request(
        app_url + "gradio_api/queue/join",
        data=b"{" + b" " * 300_000 + b"}",
        method="POST",
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)
    assert caught.value.code == 413 and b"too large" in caught.value.read()


def test_help_explains():
    text = subprocess.run(
        [sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    ).stdout
    for option in ("--host", "--port", "--share", "--public", "--models", "--prefetch", "dinov2-small"):
        assert option in text


@pytest.mark.parametrize(
    "machine",
    [
        {"LC_ALL": "C.UTF-8", "TZ": "UTC"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Tehran"},
    ],
)
def test_nothing_heavy_is_imported_before_the_page_is_up(machine):
    """Which is what makes it quick to come (`python -m tests.benchmarks start` says how quick); in every locale."""
    heavy = {"torch", "transformers", "open_clip", "diffusers", "skimage", "scipy"}
    code = f"import sys, app; app.build(); print(sorted({{m.split('.')[0] for m in sys.modules}} & {heavy}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, env=os.environ | machine
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


STAND_IN = """
import inspect

lent = []


def GPU(duration):
    # As the real package: what is no generator function runs in another process, which no generator can cross.

    def decorate(task):
        lent.append(task.__qualname__)
        if inspect.isgeneratorfunction(task):

            def steps(*arguments):
                yield from task(*arguments)

            return steps

        def once(*arguments):
            found = task(*arguments)
            assert not inspect.isgenerator(found), "a generator cannot be sent from one process to another"
            return found

        return once

    return decorate
"""


def test_functions_are_lent_a_gpu_as_what_they_are(tmp_path):
    """Where the `spaces` package is, every model call goes through it, generator functions as such."""
    (tmp_path / "spaces.py").write_text(STAND_IN, encoding="utf-8")
    code = """
import app, spaces
from demos.ui.device import on_device

@on_device
def steps(count):
    yield from range(count)

@on_device(seconds=30)
def once(count):
    return count

assert list(steps(3)) == [0, 1, 2] and once(3) == 3
print(sorted(spaces.lent))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for name in ("encode", "query", "sweep", "reconstruct", "run", "detect", "clip_score", "reference"):
        assert f"'{name}'" in done.stdout, done.stdout


def test_no_light_event_is_dropped_while_its_handler_is_at_work():
    """Of two clicks in a row the second one was lost on a busy computer, and what followed the first stayed."""
    light = [fn for fn in app.build().fns.values() if fn.show_progress == "hidden" and fn.concurrency_id != "compute"]
    assert len(light) > 100
    dropped = {fn.name for fn in light if fn.fn is not None and fn.inputs and fn.trigger_mode == "once"}
    assert dropped <= {"back"}, "twice is as good as once for this alone"
