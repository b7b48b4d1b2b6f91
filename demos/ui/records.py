"""What the server did, without what anybody gave it: a line of JSON for each request, and figures for Prometheus.

Neither pictures nor words, settings, names of files, addresses or sessions are in them. Of an error that is ours to
mend the line says its class and where it arose; what a library says of it may quote what it was given.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections import Counter, defaultdict
from typing import Literal

import psutil

Outcome = Literal["answered", "refused", "failed", "left"]  # refused: with a message that tells what to do
BOUNDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # seconds, of the histogram
requests = logging.getLogger("patchlight.requests")


class Records:
    """Counts of a process, from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done: Counter[tuple[str, str]] = Counter()  # by endpoint and outcome
        self.within: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))
        self.seconds: Counter[str] = Counter()  # from asking to the last answer, by endpoint
        self.device_seconds: Counter[str] = Counter()

    def add(self, endpoint: str, outcome: Outcome, seconds: float, device_seconds: float) -> None:
        with self.lock:
            self.done[endpoint, outcome] += 1
            self.within[endpoint][sum(seconds > bound for bound in BOUNDS)] += 1
            self.seconds[endpoint] += seconds  # type: ignore[assignment]  # a Counter may hold parts
            self.device_seconds[endpoint] += device_seconds  # type: ignore[assignment]
        told = {"endpoint": endpoint, "outcome": outcome, "seconds": round(seconds, 3)}
        requests.info("request", extra={"told": told | {"device_seconds": round(device_seconds, 3)}})

    def as_text(self, under_way: int) -> str:
        """In Prometheus' text format, version 0.0.4."""
        lines = ["# TYPE patchlight_requests_total counter"]
        with self.lock:
            for (endpoint, outcome), count in sorted(self.done.items()):
                lines.append(f'patchlight_requests_total{{endpoint="{endpoint}",outcome="{outcome}"}} {count}')
            lines.append("# TYPE patchlight_request_seconds histogram")
            for endpoint, counts in sorted(self.within.items()):
                named = f'endpoint="{endpoint}"'
                for place, bound in enumerate([*BOUNDS, "+Inf"]):
                    below = sum(counts[: place + 1])
                    lines.append(f'patchlight_request_seconds_bucket{{{named},le="{bound}"}} {below}')
                lines.append(f"patchlight_request_seconds_sum{{{named}}} {self.seconds[endpoint]:.6f}")
                lines.append(f"patchlight_request_seconds_count{{{named}}} {sum(counts)}")
            lines.append("# TYPE patchlight_device_seconds_total counter")
            for endpoint, spent in sorted(self.device_seconds.items()):
                lines.append(f'patchlight_device_seconds_total{{endpoint="{endpoint}"}} {spent:.6f}')
        memory = psutil.Process().memory_info().rss
        lines += ["# TYPE patchlight_requests_under_way gauge", f"patchlight_requests_under_way {under_way}"]
        lines += ["# TYPE process_resident_memory_bytes gauge", f"process_resident_memory_bytes {memory}"]
        return "\n".join(lines) + "\n"


RECORDS = Records()


class Lines(logging.Formatter):
    """Log records as lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": round(time.time(), 3), "level": record.levelname.lower()}
        line |= {"message": record.msg if isinstance(record.msg, str) else "", **getattr(record, "told", {})}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])[-5:]
            line["at"] = [f"{frame.filename.rsplit('/', 3)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line)


def write_lines() -> None:
    """From now on everything this program logs goes to standard error as lines of JSON, requests among it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in ("patchlight", "pipelines"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    requests.setLevel(logging.INFO)
