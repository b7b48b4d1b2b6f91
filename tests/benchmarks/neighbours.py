"""What a busy neighbour costs: `python -m tests.benchmarks neighbours`.

Token removal on pictures that nobody has shown before, alone and beside one other process for each core, with the
waiting that `demos` asks of OpenMP and with OpenMP's own. Threads that share a product wait for the last of them; by
its own rule each keeps its core busy while it waits, also when the core is what the last one is waiting for.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import demos
from tests.benchmarks.pictures import scene_files
from tests.demos.served import stepped

ROOT = Path(__file__).parents[2]
OWN = "300000"  # libgomp's, where nothing is said
WAITING = {"ours": demos.SPINS, "OpenMP's own": OWN}
ROUNDS, PICTURES = 3, 12


def median_seconds() -> float:
    """Of the main event on new scenes, in this process, warm."""
    import app

    page = app.build()
    handler = next(fn.fn for fn in page.fns.values() if fn.api_name == "token_removal")
    assert handler is not None
    found = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("GRADIO_TEMP_DIR")) as folder:
        for file in scene_files(folder, PICTURES):
            start = time.perf_counter()
            *_, _ = stepped(handler(file))
            found.append(time.perf_counter() - start)
    return statistics.median(found[2:])


def measured(spins: str) -> float:
    """The same in a process that waits as it is told."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.neighbours"],
        cwd=ROOT,
        env={**os.environ, demos.SPIN: spins},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


@contextmanager
def busy() -> Iterator[None]:
    """One process for each core that never rests."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()


def measure() -> Iterator[tuple[str, ...]]:
    """(what, seconds, share of OpenMP's own, remark), alone and beside neighbours; the best of rounds in turn."""
    for place in ("alone", "beside busy neighbours"):
        found: dict[str, list[float]] = {name: [] for name in WAITING}
        for _ in range(ROUNDS):
            for name, spins in WAITING.items():
                if place == "alone":
                    found[name].append(measured(spins))
                    continue
                with busy():
                    found[name].append(measured(spins))
        peer = min(found["OpenMP's own"])
        for name, seconds in found.items():
            yield f"{place}, {name}", f"{min(seconds):.3f}", f"{min(seconds) / peer:.2f}", ""


if __name__ == "__main__":
    print(json.dumps(median_seconds()))
