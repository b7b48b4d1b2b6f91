"""Somebody at the page, without a browser: asks as a page does, and listens."""

import inspect
import json
import uuid
from collections.abc import Iterator

import httpx

PATIENCE = 120  # seconds that a busy computer may take to answer; httpx would wait for five


class Visitor:
    """One session."""

    def __init__(self, page, url: str):
        self.url, self.session = url + "gradio_api/", uuid.uuid4().hex
        self.client = httpx.Client(timeout=600)
        self.on_page = {component["id"]: component["props"].get("value") for component in page.config["components"]}

    def ask(self, fn, **changed: object) -> None:
        """Send an event what stands on the page, or what `changed` says of its parameters."""
        data = [self.on_page[block._id] for block in fn.inputs]
        names = list(inspect.signature(fn.fn).parameters)
        for name, value in changed.items():
            data[names.index(name)] = value
        body = {"fn_index": fn._id, "data": data, "session_hash": self.session}
        self.client.post(self.url + "queue/join", json=body).raise_for_status()

    def upload(self, file: str) -> dict:
        with open(file, "rb") as opened:
            return {"path": self.client.post(self.url + "upload", files={"files": opened}).json()[0]}

    def messages(self) -> Iterator[dict]:
        params = {"session_hash": self.session}
        with self.client.stream("GET", self.url + "queue/data", params=params) as stream:
            for line in filter(None, stream.iter_lines()):
                yield json.loads(line.removeprefix("data:"))

    def answer(self) -> tuple[dict, list[dict]]:
        """The last message of the one request that is under way, and all before it."""
        said: list[dict] = []
        for message in self.messages():
            if message["msg"] == "process_completed":
                return message, said
            said.append(message)
        raise AssertionError("the stream has ended without an answer")


def function_of(page, name: str):
    """The event whose handler is called so."""
    return next(fn for fn in page.fns.values() if getattr(fn.fn, "__name__", "") == name)
