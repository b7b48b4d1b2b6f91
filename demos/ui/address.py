"""The state of a lesson in the page's address: the settings that differ from their defaults, by name.

`?tab=collapse&method=byol&stop_gradient=false` opens on that tab with these settings, `?tab=detection&picture=17` on
that scene, `?tab=collapse&hide=batch,seed` without two of its controls. What comes in an address is checked like any
other input. Settings replace the address; another tab adds one, so that back and forward go from tab to tab.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from gradio.context import Context
from gradio.events import Dependency

from demos.ui.controls import in_address
from demos.ui.export import KEY, query_in
from demos.ui.pictures import texts_of
from demos.ui.tab import QUIET, Tab
from demos.ui.text import explained
from pipelines.errors import UserError
from pipelines.settings import Setting, shown

HIDE = "hide"  # the parameter that names controls which a link is to be without

# Keeps what Gradio itself reads from an address, such as __theme, the room of a class, and what this tab is without.
WRITE = """(...values) => {
  const [tab, known] = %s;
  if (!window.addressWasRead?.[tab]) return;  // a page opens its first tab before it is told which one is wanted
  if (document.getElementById(`tab-${tab}-button`)?.getAttribute('aria-selected') === 'false') return;
  const old = new URLSearchParams(location.search), query = new URLSearchParams();
  const moved = old.get('tab') && old.get('tab') !== tab;
  for (const [name, value] of old)
    if (name.startsWith('__') || ['room', 'lang'].includes(name) || (name === 'hide' && !moved)) query.set(name, value);
  query.set('tab', tab);
  known.forEach(([name, usual], i) => {
    const value = values[i];
    if (value !== usual && value !== null && value !== undefined && value !== '') query.set(name, value);
  });
  history[moved ? 'pushState' : 'replaceState'](history.state, '', `${location.pathname}?${query}${location.hash}`);
}"""

# What is hidden stays so, whatever the server says of it later: hence a rule and no property of the component.
READ = """() => {
  const tab = %s, query = new URLSearchParams(location.search);
  (window.addressWasRead ||= {})[tab] = true;
  const names = (query.get('tab') === tab && query.get('hide') || '').split(',').filter(name => /^\\w+$/.test(name));
  if (!names.length) return;
  const parts = names.map(name => `#${tab}-${name.replaceAll('_', '-')}`);
  document.head.appendChild(document.createElement('style')).textContent = `${parts} { display: none !important; }`;
}"""

BACK = """() => addEventListener('popstate', () => {
  const button = document.getElementById(`tab-${new URLSearchParams(location.search).get('tab')}-button`);
  if (button) button.click();
  else location.reload();
})"""


def keep(tab: Tab) -> Dependency:
    """Hold the tab's settings in the address, and begin with those that a page is opened with: the returned event.

    Of a tab whose address holds more than settings the part `address` changes then, so that it can run once with all of
    it. Call it in a lesson's `wire`; a second call changes nothing.
    """
    if tab.restored is not None:
        return tab.restored
    names = [name for name, known in tab.settings.items() if name in tab.parts and in_address(known)]
    if tab.addressed:
        tab.add("address", gr.Textbox(visible="hidden", elem_id=tab.id("address")))

    def opened_with(query: Mapping[str, str]) -> dict | None:
        if query.get("tab") != tab.slug:
            return None
        found: dict[str, Any] = {}
        check_hidden(query.get(HIDE, ""), names)
        for name in set(query) & set(tab.addressed):
            found |= tab.addressed[name].restore(query[name])
        found |= {name: read(tab.settings[name], query[name]) for name in names if name in query}
        if found and tab.addressed:
            found["address"] = urlencode(query)
        return found or None

    def restore(request: gr.Request) -> dict | None:
        return opened_with(dict(request.query_params))

    def reopen(image: str | None) -> dict | None:
        """An exported figure of this tab brings back what it is of."""
        try:
            told = texts_of(image).get(KEY, "") if image else ""
        except UserError:
            return None  # the run says so
        return opened_with(query_in(told))

    page: Any = Context.root_block
    filled = [*names, *(["address"] if tab.addressed else [])]
    filled += [name for each in tab.addressed.values() for name in each.fills if name not in filled]
    tab.restored = tab.quick(page.load, restore, filled)
    tab.restored.then(None, None, None, js=READ % json.dumps(tab.slug), **QUIET)
    if tab.uploaded is not None:
        tab.quick(tab.uploaded.then, reopen, filled)
    defaults = {name: tab.settings[name].default for name in names}
    defaults |= {name: each.default for name, each in tab.addressed.items()}
    controls = [tab[name] for name in defaults]
    written = json.dumps([tab.slug, list(defaults.items())])
    opened = [tab.opened.select] if tab.opened is not None else []
    gr.on([*opened, *(each.change for each in controls)], None, controls, None, js=WRITE % written, **QUIET)
    return tab.restored


def clear(tab: Tab, listen: Callable) -> None:
    """After an event that puts every setting back; a control in a closed accordion would not tell of it."""
    listen(None, None, None, js=WRITE % json.dumps([tab.slug, []]), **QUIET)


def check_hidden(text: str, names: Sequence[str]) -> list[str]:
    """The controls that an address hides.

    Raises:
        UserError: where the tab has no such control.
    """
    hidden = [name for name in text.split(",") if name]
    unknown = next((name for name in hidden if name not in names), None)
    if unknown is not None:
        raise UserError(
            "The address hides {name}, which is none of the controls here: {names}.",
            name=shown(unknown),
            names=", ".join(names),
        )
    return hidden


def read(known: Setting, text: str) -> Any:
    """The value that an address gives a setting.

    Raises:
        UserError: where it is none of this setting's.
    """
    try:
        return known.check(_value(known, text))
    except UserError as error:
        reason = explained(error)
        raise UserError(
            "The address says {name}={given}. {reason}", name=known.name, given=shown(text), reason=reason
        ) from None


def _value(known: Setting, text: str) -> Any:
    """A text as the setting's kind; the text itself where it cannot be one, which the check then refuses."""
    if known.choices is not None:
        return next((value for value in known.choices if str(value) == text), text)
    if known.kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if known.kind in (int, float):
        try:
            return known.kind(text)
        except ValueError:
            return text
    return text
