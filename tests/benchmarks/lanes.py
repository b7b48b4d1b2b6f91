"""What three of the longest runs cost a newcomer's short work, and each other: `python -m tests.benchmarks lanes`.

An app on this computer, and visitors who talk to it as a page does. First every long run alone, then all three at once
while new visitors, one after another, each bring a picture that nobody has shown before.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator

import app
from demos.ui.serving import launch_settings
from tests.benchmarks.pictures import scene_files
from tests.visitor import Visitor, function_of

WINDOW = 15.0  # seconds over which the steps of a long run are counted
LONG: dict[str, dict[str, object]] = {  # function -> what is asked for
    "count_missing": {"many": 16},
    "compare_parametrizations": {"steps": 80},
    "clip_synthesis": {"steps": 500, "parametrization": "fourier"},
}


class Run(threading.Thread):
    """A long run whose steps are counted, until it is left."""

    def __init__(self, page, url: str, name: str):
        super().__init__(daemon=True)
        self.visitor, self.steps, self.left = Visitor(page, url), 0, False
        self.said: set[str] = set()
        self.visitor.ask(function_of(page, name), **LONG[name])

    def run(self) -> None:
        for message in self.visitor.messages():
            self.steps += message["msg"] == "process_generating"
            if message["msg"] == "log":
                self.said.add(message["log"])
            if self.left or message["msg"] == "process_completed":
                return

    def rate(self, seconds: float = WINDOW) -> float:
        before = self.steps
        time.sleep(seconds)
        return (self.steps - before) / seconds

    def leave(self) -> None:
        self.left = True
        self.join(60)


def newcomer(page, url: str, file: str) -> float:
    """Seconds from the picture to the answer."""
    visitor = Visitor(page, url)
    path = visitor.upload(file)
    start = time.monotonic()
    visitor.ask(function_of(page, "token_removal"), image=path)
    last, _ = visitor.answer()
    assert last["success"], last
    return time.monotonic() - start


def measure(newcomers: int = 20, patience: float = 120) -> Iterator[tuple[str, str, str, str]]:
    """Rows: what, seconds or steps a second, times the figure alone, remark."""
    page = app.build()
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **launch_settings(page))
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = scene_files(folder, 2 * newcomers + 2)
            newcomer(page, url, files.pop())
            alone = [newcomer(page, url, files.pop()) for _ in range(newcomers)]
            yield _row("a newcomer, nobody else there", alone, alone)
            rates = {}
            for name in LONG:
                run = Run(page, url, name)
                run.start()
                while not run.steps:
                    time.sleep(0.1)
                rates[name] = run.rate()
                run.leave()
            runs = {name: Run(page, url, name) for name in LONG}
            for run in runs.values():
                run.start()
            time.sleep(5)
            together = {name: run.steps for name, run in runs.items()}
            start = time.monotonic()
            waits: list[float] = []
            while len(waits) < newcomers and time.monotonic() - start < patience:
                waits.append(newcomer(page, url, files.pop()))
                time.sleep(0.5)
            took = time.monotonic() - start
            yield _row("a newcomer beside three long runs", waits, alone)
            for name, run in runs.items():
                rate = (run.steps - together[name]) / took
                slower = f"{rates[name] / rate:.1f} × slower" if rate else "stood still"
                yield (
                    f"{name}, steps a second",
                    f"{rates[name]:.2f} → {rate:.2f}",
                    slower,
                    " ".join(sorted(run.said)[:1]),
                )
            for run in runs.values():
                run.leave()
    finally:
        page.close()


def _row(what: str, waits: list[float], alone: list[float]) -> tuple[str, str, str, str]:
    median = statistics.median(waits)
    worst = sorted(waits)[max(0, round(0.95 * len(waits)) - 1)]
    ratio = f"{median / statistics.median(alone):.1f} ×"
    return what, f"{median:.2f}", ratio, f"p95 {worst:.2f}, of {len(waits)}"
