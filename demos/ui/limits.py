"""Every limit that holds on the server, as one table: `python app.py --limits` prints it.

What a setting allows its own class says (`pipelines.settings`); here is what belongs to no method, and the table.
"""

from collections.abc import Iterator

import gradio as gr
from gradio.blocks import Block
from PIL import Image

from demos.ui.decoding import FORMATS, MIN_SIDE
from pipelines.settings import Setting

FILE_BYTES = 12_000_000  # one file
UPLOAD_BYTES = FILE_BYTES + 100_000  # one upload, with what a form puts around it
BODY_BYTES = 256_000  # any other request
POSTS, POST_SECONDS = 1500, 10.0  # of one address: a class of thirty, each dragging a slider
UPLOADED_BYTES, UPLOADED_SECONDS = 1_000_000_000, 600.0  # of one address: thirty visitors with three large files each
SHARE = 12  # requests of one visitor that are under way at once
UNDER_WAY = 128  # requests of all
SESSIONS = 300  # visitors whose state is kept; the one who came first is forgotten first
THREADS = 16
KEPT_SECONDS = 3600  # for which files are kept that nobody asks for
PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # where Pillow refuses


def of_all() -> list[tuple[str, str]]:
    """What holds for every request."""
    return [
        ("a picture's file", f"at most {FILE_BYTES / 1e6:g} MB; {', '.join(FORMATS)}"),
        ("a picture", f"at most {PIXELS / 1e6:g} megapixels, each side at least {MIN_SIDE} pixels"),
        ("a request without a file", f"at most {BODY_BYTES / 1e3:g} kB"),
        ("requests of one address", f"at most {POSTS} in {POST_SECONDS:g} s"),
        ("files of one address", f"at most {UPLOADED_BYTES / 1e6:g} MB in {UPLOADED_SECONDS / 60:g} minutes"),
        ("requests of one visitor under way", f"at most {SHARE}"),
        ("requests of all visitors under way", f"at most {UNDER_WAY}"),
        ("visitors whose state is kept", f"at most {SESSIONS}"),
        ("a file that nobody asks for", f"kept for {KEPT_SECONDS / 60:g} minutes"),
    ]


def told(known: Setting) -> str:
    """What a setting allows, in words."""
    if known.choices is not None:
        return "one of " + ", ".join(map(str, known.choices))
    if known.kind is bool:
        return "true or false"
    if known.kind is str:
        return f"at most {known.most} characters"
    if known.kind is tuple:
        return f"a list of words, {known.most} characters each"
    if known.kind in (int, float):
        return f"{known.low:g} to {known.high:g}{', whole' if known.kind is int else ''}"
    return "a picture, or none"


def told_of_part(part: Block) -> str:
    """What a parameter that is no setting allows; its handler checks it."""
    if isinstance(part, gr.Slider):
        return f"{part.minimum:g} to {part.maximum:g}"
    if isinstance(part, gr.Image):
        return "a picture"
    if isinstance(part, gr.Radio | gr.Dropdown):
        return "one of " + ", ".join(str(value) for _, value in part.choices)
    if isinstance(part, gr.Checkbox):
        return "true or false"
    if isinstance(part, gr.Gallery):
        return "pictures, as many as the handler says"
    if isinstance(part, gr.Textbox) and part.max_length:
        return f"at most {part.max_length} characters"
    if isinstance(part, gr.State):
        return "kept here, not sent"
    return "what its handler takes"


def rows(page: gr.Blocks) -> Iterator[tuple[str, str, str]]:
    """Endpoint, parameter, what it allows; the time of an endpoint last."""
    for fn in page.fns.values():
        if fn.api_visibility != "public" or fn.fn is None:
            continue
        settings = getattr(fn.fn, "settings", {})
        for name, part in zip(getattr(fn.fn, "reads", ()), fn.inputs, strict=True):
            yield f"/{fn.api_name}", name, told(settings[name]) if name in settings else told_of_part(part)
        yield f"/{fn.api_name}", "time", f"{getattr(fn.fn, 'seconds', 0):g} s of the device, looked at after every step"


def table(page: gr.Blocks) -> str:
    """As Markdown."""
    lines = ["| of all | limit |", "|---|---|", *(f"| {what} | {limit} |" for what, limit in of_all()), ""]
    lines += ["| endpoint | parameter | limit |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows(page))])
