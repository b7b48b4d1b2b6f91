"""Files come from the upload folder only, whatever endpoint they are sent to: raw HTTP, as an attacker comes."""

import json
import os
import sys
import time
import uuid

import httpx
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

REFUSAL = "This file was not uploaded here, or it is no longer kept. Please upload it again."
LONG_AGO = 1e9
SHAPES = {
    "alone": lambda file: file,
    "marked": lambda file: file | {"meta": {"_type": "gradio.FileData"}},
    "marked badly": lambda file: file | {"meta": 5},
    "with an address": lambda file: file | {"url": file["path"], "orig_name": "a.png", "size": 9, "is_stream": True},
    "listed": lambda file: [file, file],
    "gallery": lambda file: [{"image": file, "caption": "a"}, {"video": file}],
    "editor": lambda file: {"background": None, "layers": [file], "composite": file, "id": None},
    "deep": lambda file: [[[[[[[[{"a": {"b": [file]}}]]]]]]]],
}
OPENED: list[str] = []


def _watch(event: str, arguments: tuple) -> None:
    if event in ("open", "os.utime", "os.listdir", "os.scandir") and isinstance(
        arguments[0], str | bytes | os.PathLike
    ):
        OPENED.append(os.fsdecode(arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def opened():
    sys.addaudithook(_watch)  # for the rest of the process: there is no way to take it back
    return OPENED


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """{what: path} of things that are there, all of them no uploads, and a folder in which nothing is."""
    outside, uploads = tmp_path_factory.mktemp("secret"), get_upload_folder()
    inside = os.path.join(uploads, uuid.uuid4().hex)
    os.makedirs(inside)
    picture = outside / "picture.png"
    Image.new("RGB", (64, 64), "green").save(picture)
    (outside / "text.txt").write_text("x", encoding="utf-8")
    os.mkfifo(outside / "pipe.png")
    os.mkfifo(f"{inside}/pipe.png")
    os.symlink(picture, f"{inside}/link.png")
    os.symlink(outside, f"{inside}/folder")
    os.symlink(f"{inside}/loop", f"{inside}/loop")
    os.makedirs(f"{inside}/directory.png")
    yield (
        {
            "picture": str(picture),
            "text": str(outside / "text.txt"),
            "pipe": str(outside / "pipe.png"),
            "directory": str(outside),
            "pipe among the uploads": f"{inside}/pipe.png",
            "link among the uploads": f"{inside}/link.png",
            "linked folder among the uploads": f"{inside}/folder/picture.png",
            "directory among the uploads": f"{inside}/directory.png",
            "endless link": f"{inside}/loop",
            "the uploads": uploads,
            "detour": os.path.join(inside, os.path.relpath(picture, inside)),
            "relative": os.path.relpath(picture),
            "this program": os.path.abspath("app.py"),
            "output of the process": "/proc/self/fd/1",
            "its memory": "/proc/self/mem",
            "device": "/dev/zero",
        },
        f"{inside}/nothing",
    )
    for name in ("pipe.png", "link.png", "folder", "loop"):
        os.unlink(f"{inside}/{name}")


ODD = [
    *("", "\0", "/etc/passwd\0.png", "x" * 50_000, "/" * 9_000, "a/" * 9_000, "~/.bashrc", "https://example.com/a.png"),
    *("file:///etc/passwd", "data:image/png;base64,iVBORw0KGgo=", "//example.com/a", "\\\\host\\share", "\ud800"),
    *(5, True, 1e300, [], ["/etc/passwd"], {"path": "/etc/passwd"}, {}),
]


class Attacker:
    """Posts to an event of the page by its number, and reads the last answer."""

    def __init__(self, url: str):
        self.url = url + "gradio_api/"
        self.http, self.session = httpx.Client(timeout=30), uuid.uuid4().hex
        config = self.http.get(url + "config").json()
        self.kinds = {component["id"]: component["type"] for component in config["components"]}
        self.values = {component["id"]: component["props"].get("value") for component in config["components"]}
        self.events = [event for event in config["dependencies"] if event["backend_fn"]]

    def answer(self, event: dict, data: list, event_data: object = None) -> str:
        body = {"fn_index": event["id"], "data": data, "session_hash": self.session, "event_data": event_data}
        headers = {"Content-Type": "application/json"}
        posted = self.http.post(self.url + "queue/join", content=json.dumps(body), headers=headers)
        while posted.status_code == 429:  # there are more events and payloads than requests of one address in 10 s
            time.sleep(1)
            posted = self.http.post(self.url + "queue/join", content=json.dumps(body), headers=headers)
        if posted.status_code != 200:
            return posted.text
        with self.http.stream("GET", self.url + "queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {}
                if message.get("msg") == "process_completed":
                    return message["output"].get("error") or json.dumps(message["output"])[:300]
        return "no answer"

    def given(self, event: dict, place: int, payload: object) -> list:
        """The event's data with the payload at one place, and what stands on the page at all others."""
        data = [self.values[component] for component in event["inputs"]]
        data[place] = payload
        return data


@pytest.fixture(scope="module")
def attacker(app_url) -> Attacker:
    return Attacker(app_url)


def test_no_endpoint_takes_a_file_that_was_not_uploaded(attacker, places, opened):
    """Every event, private ones included, and every input of it, with every kind of file and payload in turn."""
    things, absent = places
    names, shapes, seen, turn = [*things, "nothing"], list(SHAPES), set(), 0
    mine = [things["picture"], things["text"]]
    for path in mine:
        os.utime(path, (LONG_AGO, LONG_AGO))
    opened.clear()
    for event in attacker.events:
        for place, component in enumerate(event["inputs"]):
            name, shape = names[turn % len(names)], shapes[turn // len(names) % len(shapes)]
            turn += 1
            payload = SHAPES[shape]({"path": things.get(name, absent)})
            said = attacker.answer(event, attacker.given(event, place, payload))
            assert said == REFUSAL, (event["api_name"], attacker.kinds[component], name, shape)
            seen.add((name, shape))
    assert len(seen) == len(names) * len(shapes), "there are enough inputs on the page for every combination"
    assert not [path for path in opened if path in (*things.values(), absent)]
    assert all((os.stat(path).st_atime, os.stat(path).st_mtime) == (LONG_AGO, LONG_AGO) for path in mine)


def test_odd_paths_get_the_same_answer(attacker):
    for event in attacker.events:
        if attacker.kinds.get(next(iter(event["inputs"]), None)) == "image":
            for path in ODD:
                assert attacker.answer(event, attacker.given(event, 0, {"path": path})) == REFUSAL, path
            return
    raise AssertionError("no event takes a picture")


def test_a_bare_path_is_no_file(attacker, places, opened):
    """A text where a component expects a file: whether it names one makes no difference, and nothing is opened."""
    things, absent = places
    opened.clear()
    for event in attacker.events:
        for place, component in enumerate(event["inputs"]):
            if attacker.kinds[component] in ("image", "imageeditor", "gallery", "file"):
                said = {attacker.answer(event, attacker.given(event, place, p)) for p in (things["picture"], absent)}
                assert len(said) == 1, (event["api_name"], said)
    assert not [path for path in opened if path in (*things.values(), absent)]


def test_what_comes_with_a_click_is_looked_at_as_well(attacker, places):
    for event in attacker.events:
        if any(trigger == "select" for _, trigger in event["targets"]) and event["inputs"]:
            data = attacker.given(event, 0, attacker.values[event["inputs"][0]])
            told = {"index": [0, 0], "value": {"image": {"path": places[0]["picture"]}}}
            assert attacker.answer(event, data, told) == REFUSAL, event["api_name"]


@pytest.mark.parametrize("way", ["call/token_removal", "call/v2/token_removal", "run/token_removal"])
def test_other_ways_in(attacker, places, way):
    things, absent = places
    for path in (things["picture"], absent):
        file = {"path": path}
        body = (
            {"image": file}
            if "v2" in way
            else {"data": [file, "", 0.5, "attention", "mean", "mean", 42, "storybook-detailclip"]}
        )
        posted = attacker.http.post(attacker.url + way, json=body)
        if way.startswith("run"):
            assert posted.status_code == 404
        else:
            address = f"{attacker.url}call/token_removal/{posted.json()['event_id']}"
            assert REFUSAL in attacker.http.get(address).text


def test_files_are_served_from_the_upload_folder_only(attacker, places):
    things, absent = places
    for path in (*(path for name, path in things.items() if name != "pipe among the uploads"), absent):
        for way in ("file=", "file/"):
            assert attacker.http.get(attacker.url + way + path).status_code != 200, path


def test_an_upload_is_taken(attacker, scene_file):
    with open(scene_file, "rb") as file:
        path = attacker.http.post(attacker.url + "upload", files={"files": file}).json()[0]
    event = next(event for event in attacker.events if event["api_name"] == "token_removal")
    said = attacker.answer(event, attacker.given(event, 0, {"path": path}))
    assert '"data": [{"path": ' in said
