"""Measure this computer: `python -m tests.benchmarks start`,
`python -m tests.benchmarks tabs`, `python -m tests.benchmarks detection`,
`python -m tests.benchmarks diffusion`,
`python -m tests.benchmarks clip_synthesis`,
`python -m tests.benchmarks lanes`, `python -m tests.benchmarks neighbours`,
`python -m tests.benchmarks labs`.

`start`: from `python app.py` to the first answer, with nothing but the bundled models.

`tabs`: server time of each tab's main event on a new scene, warm, and of its slider on a scene already seen, on the
bundled models. Handlers are called as the server calls them, without the network.

`detection`: seconds of a full-size detector beside transformers' own call and groundingdino-py's, see detection.py.

`diffusion`: seconds of drawing beside plain diffusers, and of Attend-and-Excite beside diffusers' own, see
diffusion.py.

`clip_synthesis`: seconds of an iteration beside VQGAN-CLIP's recipe, and to the same opinion of another CLIP, see
clip_synthesis.py.

`lanes`: how long a newcomer's short work waits beside three long runs, and what those cost each other, see lanes.py.

`neighbours`: seconds of token removal beside busy processes, with our waiting for threads and OpenMP's, see
neighbours.py.

`labs`: seconds of each lab's default run, to its first picture and to its verdict, see labs.py.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import app
from pipelines.evaluation.clip import write_between
from tests.benchmarks import clip_synthesis, detection, diffusion, labs, lanes, neighbours
from tests.benchmarks.pictures import scene_files
from tests.demos.served import stepped

ROOT = Path(__file__).parents[2]


def handler_of(page, name: str) -> Callable:
    """The function behind an endpoint."""
    return next(fn.fn for fn in page.fns.values() if fn.api_name == name)


def seconds(handler: Callable, *arguments: object, **settings: object) -> float:
    start = time.perf_counter()
    *_, last = stepped(handler(*arguments, **settings))
    assert last is not None
    return time.perf_counter() - start


def tabs(scenes: int = 6) -> dict[str, tuple[float, float]]:
    """Median seconds of (a new scene, a slider move) for each tab; the first scene warms up and does not count."""
    import tempfile

    page, found = app.build(), {}
    with tempfile.TemporaryDirectory() as folder:
        files = scene_files(folder, scenes + 1)
        for lesson in app.LESSONS:
            slug, measure = lesson.slug, lesson.measure
            if measure is None:
                continue
            handler = handler_of(page, slug)
            name, values, more = measure.slider, measure.through, measure.besides
            new = [seconds(handler, file, **more) for file in files][1:]
            moved = [seconds(handler, files[-1], **more, **{name: value}) for value in values]
            found[slug] = statistics.median(new), statistics.median(moved)
    return found


def start() -> float:
    """Seconds until the page is there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", port, "--models", "bundled"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20):
                    return time.monotonic() - begun
            except urllib.error.URLError:
                assert process.poll() is None, "the server has ended"
                time.sleep(0.05)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peers = {
        module.__name__.split(".")[-1]: module.measure
        for module in (detection, diffusion, clip_synthesis, lanes, neighbours)
    }
    parser.add_argument("what", choices=["start", "tabs", "labs", *peers])
    parser.add_argument("--write", action="store_true", help="write the table of `labs` into the README")
    options = parser.parse_args()
    what = options.what
    if what in peers:
        print("| what | seconds | share | |\n|---|---|---|---|")
        for row in peers[what]():
            print(f"| {' | '.join(row)} |")
        return
    if what == "start":
        print(f"{min(start() for _ in range(3)):.1f} seconds, best of three")
        return
    if what == "labs":
        lines = ["| lesson | first picture, s | whole run, s | pictures a second |", "|---|---|---|---|"]
        print("\n".join(lines))
        for row in labs.measure():
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
        if options.write:
            write_between(ROOT / "README.md", "labs", "\n".join(lines))
        return
    print("| tab | new scene, ms | slider, ms |\n|---|---|---|")
    for name, (new, moved) in tabs().items():
        print(f"| {name} | {1000 * new:.0f} | {1000 * moved:.0f} |")


if __name__ == "__main__":
    main()
