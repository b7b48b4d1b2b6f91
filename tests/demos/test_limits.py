"""Every limit of every endpoint holds on the server, whatever a page would have let through; the table tells them."""

import asyncio
import inspect
import math
import time

import gradio as gr
import httpx
import pytest

import app
from demos.ui import device, events, limits, serving
from demos.ui.events import lazily
from demos.ui.limits import told
from pipelines.settings import Setting
from tests.demos.served import stepped


@pytest.fixture(scope="module")
def page() -> gr.Blocks:
    return app.build()


def asked(page) -> list:
    """Every handler that takes settings and computes, once."""
    found: dict[tuple, object] = {}
    for fn in page.fns.values():
        if fn.concurrency_id == "compute" and getattr(fn.fn, "settings", None):
            found.setdefault((fn.fn.__name__, tuple(fn.fn.reads), id(fn.fn.settings)), fn)
    return list(found.values())


def bad_values(known: Setting) -> list:
    """What a setting must refuse, from a program that sends what it likes."""
    common: list = [{"a": 1}, [[]], 10**400]
    if known.choices is not None:
        return [*common, "../../etc/passwd", None, math.nan]
    if known.kind is bool:
        return [*common, "true", 1, None]
    if known.kind is str:
        return ["x" * (known.most + 1), "x" * 1_000_000, "\udc00", 5, {"a": 1}]
    if known.kind is tuple:
        return [5, "cat", [5], ["\udc00"], {"a": 1}]
    if known.kind in (int, float):
        assert known.low is not None and known.high is not None, known.name
        beyond = [known.high + 1, known.low - 1, 2**70, 1e308, -(10**9), math.nan, math.inf, -math.inf]
        return [*common, *beyond, "50", None, True, *([known.low + 0.5] if known.kind is int else [])]
    return []  # a picture: a file of the upload folder, see test_uploads.py


def test_every_limit_is_held_and_nothing_heavy_is_reached(page, scene_file, monkeypatch):
    """Through the handlers of all endpoints, private ones too: hiding one from a page closes it to nobody."""

    def reached(self, attribute):
        raise AssertionError(f"{self._name}.{attribute} was reached")

    functions, refused = asked(page), 0
    assert len(functions) > 15
    monkeypatch.setattr(lazily, "__getattr__", reached)
    for fn in functions:
        good = {name: getattr(block, "value", None) for name, block in zip(fn.fn.reads, fn.inputs, strict=True)}
        if "image" in good:
            good["image"] = scene_file
        for name in good:
            for bad in bad_values(fn.fn.settings[name]) if name in fn.fn.settings else ():
                values = (good | {name: bad}).values()
                with pytest.raises(gr.Error) as caught:
                    list(stepped(fn.fn(*values)))
                told_why = str(caught.value)
                assert "on our side" not in told_why and len(told_why) < 700, (fn.api_name, name, bad, told_why)
                refused += 1
    assert refused > 500


def test_the_table_tells_of_every_endpoint_and_parameter(page):
    table = limits.table(page)
    for fn in page.fns.values():
        if fn.api_visibility == "public":
            for name in inspect.signature(fn.fn).parameters:
                assert f"| /{fn.api_name} | {name} | " in table
            assert f"| /{fn.api_name} | time | {fn.fn.seconds:g} s of the device" in table
    for lesson in app.LESSONS:
        assert f"| /{lesson.slug} |" in table
    assert "12 MB" in table and "25 megapixels" in table and "| /diffusion | steps | 1 to 100, whole |" in table


def test_words_of_a_limit_are_those_of_its_setting():
    known = Setting(name="n", kind=int, default=1, label="N", low=1, high=9)
    assert told(known) == "1 to 9, whole"
    assert told(Setting(name="n", kind=str, default="", label="N", most=20)) == "at most 20 characters"
    assert told(Setting(name="n", kind=str, default="", label="N", choices={"a": "A", "b": "B"})) == "one of a, b"


def test_the_deadline_ends_the_work_and_frees_the_device():
    closed = []

    def endless():
        try:
            while True:
                time.sleep(0.05)
                yield 1
        finally:
            closed.append(True)

    with pytest.raises(gr.Error, match="Stopped after"):
        list(stepped(events.event(endless, seconds=0.2)()))
    assert closed and not device.devices()[0].under_way
    with device.held():
        pass


# ------------------------------------------------------------------------------------------- what an address may send


async def stub(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"taken"})


def sent(guard, path: str, **request) -> httpx.Response:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post(path, **request)

    return asyncio.run(post())


@pytest.fixture
def guard(page):
    return serving.Guard(stub, page)


def test_bodies_are_bounded_also_where_they_do_not_say_how_long_they_are(guard):
    async def chunks():
        for _ in range(10):
            yield b" " * 100_000

    assert sent(guard, "/gradio_api/queue/join", content=b" " * 1000).status_code == 200
    assert sent(guard, "/gradio_api/queue/join", content=b" " * 300_000).status_code == 413
    assert sent(guard, "/gradio_api/queue/join", content=chunks()).status_code == 411
    assert sent(guard, "/gradio_api/upload", content=chunks()).status_code == 411
    assert sent(guard, "/gradio_api/upload", content=b" " * 13_000_000).status_code == 413


def test_files_of_an_address_are_bounded_and_so_is_the_disk(guard, monkeypatch):
    guard.uploads = serving.Recent(25_000_000, 600)
    answers = [sent(guard, "/gradio_api/upload", content=b" " * 10_000_000) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "wait a few minutes" in answers[2].json()["detail"]
    assert sent(guard, "/gradio_api/queue/join", content=b"{}").status_code == 200
    monkeypatch.setattr(serving, "disk_left", lambda: serving.LEAST_DISK + 5)
    full = sent(guard, "/gradio_api/upload", content=b"12345678")
    assert full.status_code == 507 and "no room left" in full.json()["detail"]


def test_what_was_sent_long_ago_does_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(serving.time, "monotonic", lambda: now[0])
    recent = serving.Recent(2, 10)
    assert [recent.refuses("a", 1) for _ in range(3)] == [False, False, True] and not recent.refuses("b", 1)
    now[0] = 11
    assert not recent.refuses("a", 1)
