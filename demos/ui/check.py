"""What works on this computer, without a network: `python app.py --check` says it before a class comes."""

import asyncio
import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import psutil

from demos.ui import pictures
from demos.ui.device import devices
from demos.ui.health import disk_left
from demos.ui.lesson import Lesson
from pipelines.models import hub
from pipelines.models.registry import MODELS

LIBRARIES = ("torch", "torchvision", "transformers", "diffusers", "open_clip_torch", "gradio")
LONGEST = 60.0  # seconds that a tab may take here
SCENE = 16  # the seed of the scene that the tabs are tried on


def computer() -> Iterator[str]:
    memory = psutil.virtual_memory()
    yield f"Python {platform.python_version()}, {os.cpu_count()} cores, {len(devices())} at a time"
    free, whole = memory.available / 1e9, memory.total / 1e9
    yield f"{free:.1f} of {whole:.1f} GB of memory free, {disk_left() / 1e9:.1f} GB of disk"
    yield ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)


def models() -> Iterator[tuple[str, str, str]]:
    """Name, where it is, megabytes."""
    for name, spec in MODELS.items():
        where = hub.availability(name)
        if spec.tier != "converted" or hub.folder_of(spec):
            yield name, "not here; --prefetch fetches it" if where == "download" else where, f"{spec.megabytes} MB"


def tabs(page: gr.Blocks, lessons: Sequence[Lesson]) -> Iterator[tuple[str, str, str, bool]]:
    """Title, seconds to the first answer and to the last one of its main event as the page opens it, whether it works.

    What a tab needs at its first use, such as loading its models, counts as well: a class waits for it too.
    """
    with tempfile.TemporaryDirectory() as folder:
        scene, _ = pictures.scene_picture({"seed": SCENE})
        scene.save(f"{folder}/scene.png")
        for lesson in lessons:
            fn = next(fn for fn in page.fns.values() if fn.api_name == lesson.slug)
            yield lesson.title, *asyncio.run(_tried(fn, f"{folder}/scene.png"))


async def _tried(fn: Any, scene: str) -> tuple[str, str, bool]:
    values = [scene if name == "image" else part.value for name, part in zip(fn.fn.reads, fn.inputs, strict=True)]
    start, first = time.monotonic(), 0.0
    answers = fn.fn(*values)
    try:
        async for answer in answers:
            if answer != gr.skip():
                first = first or time.monotonic() - start
            if time.monotonic() - start > LONGEST:
                return f"{first:.1f} s", f"more than {LONGEST:g} s", True
    except gr.Error as error:
        return "", str(error), False
    finally:
        await answers.aclose()
    return f"{first:.1f} s", f"{time.monotonic() - start:.1f} s", True


def run(page: gr.Blocks, lessons: Sequence[Lesson]) -> bool:
    """Print it all as it is found; whether every tab works."""
    hub.keep_to_bundled()  # nothing is asked of a network
    print("\n".join(computer()), "\n")
    for row in models():
        print(" · ".join(row))
    print("\ntab · first answer · all of it", flush=True)
    works = True
    for title, first, whole, fine in tabs(page, lessons):
        works = works and fine
        print(f"{title} · {first} · {whole}" if fine else f"{title} · does not work: {whole}", flush=True)
    print("\nEverything works without a network." if works else "\nNot everything works here.")
    return works
