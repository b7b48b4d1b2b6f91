"""What a stranger finds closed where the app stands on the open internet."""

import uuid

import httpx
import pytest

import app
from demos.ui.serving import launch_settings
from tests.visitor import PATIENCE, Visitor, function_of


@pytest.fixture(scope="module")
def public():
    page = app.build()
    settings = launch_settings(page, api=False)
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **settings)
    yield page, url
    page.close()


CLOSED = {
    "GET": (
        *("docs", "redoc", "openapi.json", "gradio_api/openapi.json", "monitoring", "monitoring/summary", "metrics"),
        *("gradio_api/file=https://example.com/a.png", "gradio_api/file/https://example.com/a.png"),
        *("gradio_api/proxy=https://example.com/", "gradio_api/file=/etc/passwd", "gradio_api/file=app.py"),
        *("gradio_api/file=README.md", "gradio_api/file=.git/config", "gradio_api/dev/reload", "pwa_icon/12000"),
        *("gradio_api/deep_link?session_hash=a", "gradio_api/run-history/buckets", "runs", "gradio_api/mcp/"),
        "gradio_api/call/token_removal/1",
    ),
    "POST": (
        *("gradio_api/call/token_removal", "gradio_api/call/v2/token_removal", "gradio_api/run/token_removal"),
        *("gradio_api/api/token_removal", "gradio_api/call/first_run", "gradio_api/mcp/"),
    ),
}


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, paths in CLOSED.items() for path in paths])
def test_it_is_closed(public, method, path):
    body = {"json": {"data": []}} if method == "POST" else {}
    assert httpx.request(method, public[1] + path, timeout=30, **body).status_code in (403, 404, 405), path


@pytest.mark.parametrize("origin", ["null", "https://evil.example", "http://127.0.0.1.evil.example", "http://"])
def test_pages_of_others_cannot_ask_in_a_visitors_name(public, origin):
    for path in ("gradio_api/queue/join", "gradio_api/upload", "gradio_api/cancel", "gradio_api/reset"):
        asked = httpx.post(public[1] + path, headers={"Origin": origin}, json={}, timeout=30)
        assert asked.status_code == 403 and "other pages" in asked.text, path


def test_its_own_page_is_served_as_ever(public):
    page, url = public
    own = url.rstrip("/")
    assert (
        httpx.get(url, timeout=60).status_code == 200
        and httpx.get(url + "gradio_api/info", timeout=60).status_code == 200
    )
    config = httpx.get(url + "config", timeout=60).json()
    assert "api" not in config.get("footer_links", []) and config["enable_queue"]
    visitor = Visitor(page, url)
    visitor.client.headers["Origin"] = own
    visitor.ask(function_of(page, "next_scene"))
    last, _ = visitor.answer()
    assert last["success"]


def test_files_are_taken_from_the_upload_folder_alone(public):
    page, url = public
    for path in (
        "/etc/passwd",
        "../../../../etc/passwd",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "C:\\a",
    ):
        visitor = Visitor(page, url)
        visitor.ask(function_of(page, "token_removal"), image={"path": path, "meta": {"_type": "gradio.FileData"}})
        last, _ = visitor.answer()
        assert not last["success"] and "not uploaded here" in last["output"]["error"], (path, last)


def test_an_upload_is_not_run_in_a_visitors_browser(public):
    """HTML and SVG come back as something to save, not as a page of this site."""
    for name, kind in (("a.html", "text/html"), ("a.svg", "image/svg+xml")):
        files = {"files": (name, b"<script>alert(1)</script>", kind)}
        path = httpx.post(public[1] + "gradio_api/upload", files=files, timeout=30).json()[0]
        got = httpx.get(f"{public[1]}gradio_api/file={path}", timeout=30)
        assert "attachment" in got.headers.get("content-disposition", "") or got.status_code in (403, 404), got.headers


def test_what_the_command_line_opens(monkeypatch):
    def options(*words: str):
        monkeypatch.setattr("sys.argv", ["app.py", *words])
        return app.arguments()

    assert options().api and not options().mcp and not options().metrics and not options().log
    assert not options("--public").api and not options("--share").api and options("--public", "--api").api
    assert not options("--no-api").api
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        options("--mcp")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert options("--public", "--mcp").api and options("--mcp").mcp
    with pytest.raises(SystemExit):
        options("--mcp", "--no-api")


def test_nobody_elses_answers_are_heard(public):
    """A session's name cannot be guessed, and one that nobody has is no way in."""
    nobody = {"session_hash": uuid.uuid4().hex}
    with httpx.stream("GET", public[1] + "gradio_api/queue/data", params=nobody, timeout=PATIENCE) as stream:
        said = next(line for line in stream.iter_lines() if line)
    assert "not found" in said.lower() or "unexpected" in said.lower(), said
