"""The address of what is on the screen: copied, and as a QR code that a class can point a telephone at."""

import html
import json
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import segno

from demos.ui.address import HIDE
from demos.ui.controls import words
from demos.ui.events import light
from demos.ui.tab import QUIET
from demos.ui.text import LANGUAGES, say, t
from pipelines.errors import UserError

MOST = 1500  # characters; a QR code that is read from the last row holds about as many
HERE = ("127.0.0.1", "localhost", "::1")

# Browsers let a page copy only where it was served securely, or by this computer. A class gets the page's language.
ADDRESS = """async (address, copied, shown) => {
  const there = new URL(location.href), code = document.documentElement.lang.split('-')[0];
  if (OTHERS.includes(code)) there.searchParams.set('lang', code);
  copied = await navigator.clipboard?.writeText(there.href).then(() => 'yes', () => '') || '';
  return [there.href, copied, shown];
}""".replace("OTHERS", json.dumps(list(LANGUAGES)))

# Six characters that nobody mixes up; a room is no secret.
ROOM = """async (...values) => {
  const letters = 'abcdefghjkmnpqrstuvwxyz23456789', drawn = crypto.getRandomValues(new Uint32Array(6));
  const there = new URL(location.href);
  there.searchParams.set('room', [...drawn].map(each => letters[each % letters.length]).join(''));
  history.replaceState(history.state, '', there);
  return (ADDRESS)(values[0], values[1], '');
}""".replace("ADDRESS", ADDRESS)

HIDDEN = """async (address, copied, shown, hidden) => {
  const there = new URL(location.href);
  if (hidden.length) there.searchParams.set('hide', hidden.join(','));
  else there.searchParams.delete('hide');
  history.replaceState(history.state, '', there);
  return [...await (ADDRESS)(address, copied, ''), hidden];
}""".replace("ADDRESS", ADDRESS)

Controls = Mapping[str, Mapping[str, str]]  # of each tab: name -> label


def button(chapter: str) -> gr.Button:
    """Lay out the button in the masthead of a chapter; connect it with `connect`."""
    return gr.Button(t("Share"), size="sm", elem_id=f"share-{chapter}", elem_classes="chapter")


def connect(pressed: gr.Button, chapter: str, controls: Controls) -> None:
    """Lay out what the button opens, and closes again.

    Args:
        controls: what a link can be without.
    """
    address, copied = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden")
    shown = gr.HTML(elem_id=f"shared-{chapter}", padding=False)
    inputs = [address, copied, shown]
    with gr.Row(elem_classes="make-room"):
        made = gr.Button(t("Count a class's guesses together"), size="sm", elem_id=f"room-{chapter}")
    label = t("What the link is to be without")
    hidden = gr.CheckboxGroup([], label=label, visible=False, elem_id=f"hide-{chapter}")

    def turn(address: str, copied: str, shown: str | None) -> tuple[str, gr.CheckboxGroup]:
        card = share(address, copied, shown)
        return card, choices(card, address, controls)

    made.click(light(share), inputs, shown, js=ROOM, **QUIET)
    pressed.click(light(turn), inputs, [shown, hidden], js=ADDRESS, **QUIET)
    hidden.input(light(share_without), [*inputs, hidden], shown, js=HIDDEN, **QUIET)


def choices(card: str, address: str, controls: Controls) -> gr.CheckboxGroup:
    """The controls of the tab in an address, those chosen that the address hides already; nothing beside a closed
    card."""
    query = parse_qs(urlsplit(address).query)
    known = controls.get(query.get("tab", [""])[0], {})
    hidden = [name for name in query.get(HIDE, [""])[0].split(",") if name in known]
    labels = [(say(label), name) for name, label in known.items()]
    return gr.CheckboxGroup(labels, value=hidden, visible=bool(card and known))


def share_without(address: str, copied: str, shown: str | None, hidden: list[str]) -> str:
    """The address again, in which the browser has written what is hidden."""
    return share(address, copied, shown)


def share(address: str, copied: str, shown: str | None) -> str:
    """The address and its QR code as HTML; nothing where they are on show.

    Raises:
        UserError: for an address that is none of a page, or longer than MOST.
    """
    if shown:
        return ""
    parts = urlsplit(words(say("The address"), address, MOST))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError("This is no address of a page: {address}", address=address[:80])
    code = segno.make_qr(address, error="m").svg_inline(omitsize=True, border=4, dark="#111", light="#fff")
    told = [say("Copied. It opens on this tab, with this picture and these settings.") if copied else say("Copy it:")]
    if parts.hostname in HERE:
        told.append(say("This address is of this computer alone. For a class, start the app with --public."))
    room = parse_qs(parts.query).get("room", [""])[0]
    if room:
        told.append(say("Room {room}: whoever opens this link is counted in it. Nothing else is kept.", room=room))
    if "picture=uploaded" in parts.query:
        told.append(say("The picture was uploaded, so it is not part of the link."))
    words_told = "".join(f"<p>{html.escape(each)}</p>" for each in told)
    field = f'<input readonly value="{html.escape(address)}" aria-label="{html.escape(say("Link"))}">'
    return f'<div class="link-card">{code}<div>{words_told}{field}</div></div>'
