"""Whether the server lives and is ready, what it writes down, and how it ends."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gradio as gr
import httpx
import pytest

from demos.ui import events, health, records, serving
from demos.ui.models import WARM
from demos.ui.text import LANGUAGES
from pipelines.errors import UserError
from tests.visitor import PATIENCE, Visitor, function_of

ROOT = Path(__file__).parents[2]
SECRET = "a very private prompt"


def answer(words: str) -> str:
    if words == "bad":
        raise UserError("{words} is no word.", words=words)
    if words == SECRET:
        raise RuntimeError(f"cannot encode {words}")
    return words


@pytest.fixture(scope="module")
def served():
    with serving.Page() as page:
        words, shown, button = gr.Textbox("good"), gr.Textbox(), gr.Button()
        button.click(events.event(answer), words, shown, api_name="answer", **events.COMPUTE)
    page.queue(max_size=4, default_concurrency_limit=None, api_open=False)
    _, url, _ = page.launch(
        prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **serving.launch_settings(page, metrics=True)
    )
    yield page, url
    page.close()


def ask(served, words: str) -> dict:
    visitor = Visitor(*served)
    visitor.ask(function_of(served[0], "answer"), words=words)
    last, _ = visitor.answer()
    return last


def test_it_says_why_nobody_should_be_sent_here(served, monkeypatch):
    page, url = served
    assert httpx.get(url + "healthz", timeout=PATIENCE).json()["ok"]
    monkeypatch.setattr(health, "WARM", type(WARM)())
    cold = httpx.get(url + "readyz", timeout=PATIENCE)
    assert cold.status_code == 503 and cold.json()["reasons"] == ["warming up"]
    health.WARM.set()
    assert httpx.get(url + "readyz", timeout=PATIENCE).json() == {"ready": True, "reasons": []}
    monkeypatch.setattr(health, "LEAST_DISK", 10**18)
    assert httpx.get(url + "readyz", timeout=PATIENCE).json()["reasons"] == ["disk full"]
    monkeypatch.setattr(page._queue, "closing", True)
    assert httpx.get(url + "readyz", timeout=PATIENCE).json()["reasons"] == ["shutting down", "disk full"]
    assert httpx.get(url + "healthz", timeout=PATIENCE).status_code == 200, "it lives until it ends"


def test_figures_count_requests_by_how_they_ended(served, app_url, monkeypatch):
    assert httpx.get(app_url + "metrics", timeout=PATIENCE).status_code == 404, "only where they were asked for"
    monkeypatch.setattr(records, "RECORDS", records.Records())
    monkeypatch.setattr("demos.ui.waiting.RECORDS", records.RECORDS)
    monkeypatch.setattr(health, "RECORDS", records.RECORDS)
    assert ask(served, "good")["success"] and not ask(served, "bad")["success"] and not ask(served, SECRET)["success"]
    deadline = time.monotonic() + 20  # counted after the answer is on its way
    while sum(records.RECORDS.done.values()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    text = httpx.get(served[1] + "metrics", timeout=PATIENCE).text
    for outcome in ("answered", "refused", "failed"):
        assert f'patchlight_requests_total{{endpoint="answer",outcome="{outcome}"}} 1' in text, text
    assert 'patchlight_request_seconds_count{endpoint="answer"} 3' in text
    assert 'patchlight_request_seconds_bucket{endpoint="answer",le="+Inf"} 3' in text
    assert "process_resident_memory_bytes" in text and SECRET not in text
    for line in text.splitlines():
        assert line.startswith("# TYPE ") or float(line.rsplit(" ", 1)[1]) >= 0, line


def test_lines_of_the_log_hold_nothing_of_a_visitors(served):
    written: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(records.Lines().format(record))

    loggers, kept = [logging.getLogger("patchlight")], Kept()
    records.requests.setLevel(logging.INFO)
    for logger in loggers:
        logger.addHandler(kept)
    try:
        ask(served, "good")
        ask(served, SECRET)
        deadline = time.monotonic() + 20  # a line is written after the answer is on its way
        while len(written) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        for logger in loggers:
            logger.removeHandler(kept)
        records.requests.setLevel(logging.NOTSET)
    lines = [json.loads(line) for line in written]
    done = [line for line in lines if line["message"] == "request"]
    assert [line["outcome"] for line in done] == ["answered", "failed"]
    assert done[0].keys() == {"time", "level", "message", "endpoint", "outcome", "seconds", "device_seconds"}
    (fault,) = [line for line in lines if "error" in line]
    assert fault["error"] == "RuntimeError" and any("test_health.py" in place for place in fault["at"])
    assert SECRET not in "".join(written) and "cannot encode" not in "".join(written)


SCRIPT = """
import time
import gradio as gr
from demos.ui import events, health, serving

def endless():
    while True:
        time.sleep(0.2)
        yield 1

with serving.Page() as page:
    shown, button = gr.Number(), gr.Button()
    button.click(events.event(endless), None, shown, api_name="endless", **events.COMPUTE)
page.queue(max_size=8, default_concurrency_limit=None, api_open=False)
_, url, _ = page.launch(
    prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **serving.launch_settings(page)
)
print(url, flush=True)
health.serve_until_told(page)
"""


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_tells_its_visitors_and_ends(told):
    """Within five seconds, with a run under way and a page that listens."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        event = httpx.post(url + "gradio_api/call/endless", json={"data": []}, timeout=60).json()["event_id"]
        with httpx.stream("GET", f"{url}gradio_api/call/endless/{event}", timeout=60) as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line.startswith("data: [1"))
            start = time.monotonic()
            process.send_signal(told)
            said = list(lines)
        assert any("being restarted" in line for line in said), said
        assert process.wait(timeout=20) == 0 and time.monotonic() - start < 5
    finally:
        process.kill()


def test_who_comes_while_it_ends_is_told(served, monkeypatch):
    page, url = served
    monkeypatch.setattr(page._queue, "closing", True)
    monkeypatch.setitem(LANGUAGES, "fa", {})
    refused = httpx.post(url + "gradio_api/call/answer", json={"data": ["good"]}, timeout=30)
    assert refused.status_code >= 400 and "being restarted" in refused.text


def test_a_busy_computer_does_not_keep_the_app_from_starting(monkeypatch):
    """Gradio asks its own server for the first page, waits three seconds, and gives up."""
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)
    with serving.Page() as page:
        gr.Markdown("here")
    _, url, _ = page.launch(
        prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **serving.launch_settings(page)
    )
    try:
        assert httpx.get(url, timeout=60).status_code == 200
    finally:
        page.close()
