"""Persian is complete: every text of the page, of its answers and of its lessons, with the same numbers in it."""

import ast
import json
import re
from pathlib import Path

import pytest

from demos.ui.page import title_of
from demos.ui.text import ASSETS, LANGUAGES, LAYOUT, MARK, PERSIAN, language, say, sections
from pipelines.world import persian, storybook
from pipelines.world.prompts import prompt_set

ROOT = ASSETS.parent
FILE = json.loads((ASSETS / "languages" / "fa.json").read_bytes())
LESSONS = sorted(file.name for file in (ASSETS / "lessons").glob("*.md"))
SHOWS = {"say", "t"}  # functions whose first argument the visitor sees
LATIN = str.maketrans("۰۱۲۳۴۵۶۷۸۹٫", "0123456789.", "٬\u200e")


def trees() -> list[ast.Module]:
    files = [ROOT / "app.py", *sorted((ROOT / "demos").rglob("*.py")), *sorted((ROOT / "pipelines").rglob("*.py"))]
    return [ast.parse(file.read_text(encoding="utf-8")) for file in files]


def shown_texts() -> set[str]:
    """Whatever stands in the source as a text that a visitor sees."""
    found = set()
    for tree in trees():
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and call.args):
                continue
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if name in SHOWS or name in ("UserError", "ModelUnavailable", "PresentationError"):
                first = call.args[0]
                for each in [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]:
                    if isinstance(each, ast.Constant) and isinstance(each.value, str):
                        found.add(each.value)
    return {text for text in found if re.search("[A-Za-z]{2}", text)}


def page_texts(page) -> set[str]:
    """Every text that the browser is to translate."""
    found, waiting = set(), [json.loads(json.dumps(page.config, default=str))]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, str):
            found |= {json.loads(each)["key"] for each in re.findall(r"__i18n__(\{.*?\})(?=$|__i18n__)", value, re.S)}
    return {key.removesuffix(MARK) for key in found}


def numbers(text: str) -> list[str]:
    """Those of the prose, sorted: a translation may move them."""
    prose = re.sub(r"\]\([^)]*\)|`[^`]*`", "", text.translate(LATIN))
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", prose.replace(",", "")))


@pytest.fixture(scope="module")
def page():
    import app

    return app.build()


def test_every_text_of_the_source_is_translated():
    missing = sorted(text for text in shown_texts() if text not in LANGUAGES[PERSIAN])
    assert not missing, f"{len(missing)} texts have no Persian: {missing[:20]}"


def test_every_text_of_the_page_is_translated(page):
    import app

    texts = page_texts(page)
    assert len(texts) > 500
    titles = {title_of(lesson, app.LESSONS) for lesson in app.LESSONS}
    missing = sorted(
        text for text in texts - titles if re.search("[A-Za-z]{2}", text) and text not in LANGUAGES[PERSIAN]
    )
    assert not missing, f"{len(missing)} texts have no Persian: {[text[:80] for text in missing[:20]]}"
    assert all(re.match("[0-9]+ · .*[\u0600-\u06ff]", LANGUAGES[PERSIAN][title]) for title in titles)


def test_no_translation_is_of_a_text_that_is_gone(page):
    source = {node.value for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    files = [*(ASSETS / "models").glob("*/*.json"), *(ASSETS / "studies").glob("*.json")]
    data = " ".join(file.read_text(encoding="utf-8") for file in files)
    lessons = {title for name in LESSONS for title, _ in sections(ASSETS / "lessons" / name)}
    known = source | lessons | page_texts(page)
    unused = sorted(text for text in FILE if text not in known and json.dumps(text) not in data)
    assert not unused, f"{len(unused)} translations are of nothing: {[text[:80] for text in unused[:20]]}"


@pytest.mark.parametrize("kind", ["placeholders", "numbers", "marks"])
def test_a_translation_holds_what_the_text_holds(kind):
    find = {
        "placeholders": lambda text: sorted(re.findall(r"\{[^}]*\}", text)),
        "numbers": numbers,
        "marks": lambda text: sorted(re.findall(r"</?\w+|\*\*", text)),
    }[kind]
    different = [text for text, translated in FILE.items() if find(text) != find(translated)]
    assert not different, f"{len(different)} differ in {kind}: {different[:10]}"


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_says_the_same_in_persian(name):
    english, translated = sections(ASSETS / "lessons" / name), sections(ASSETS / "languages" / "fa" / name)
    assert [LANGUAGES[PERSIAN][title] for title, _ in english] == [title for title, _ in translated]
    for (title, body), (_, told) in zip(english, translated, strict=True):
        assert numbers(body) == numbers(told), title
        for what in (r"^- ", r"\n\n", r"\]\([^)]*\)", r"\$\$?[^$]+\$\$?", r"\|"):
            found, other = re.findall(what, body, re.M), re.findall(what, told, re.M)
            assert sorted(found) == sorted(other), (title, what)


def test_the_language_is_the_chosen_one_else_the_browsers(monkeypatch):
    from gradio.context import LocalContext
    from starlette.requests import Request

    def asked(**headers: str) -> str:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        LocalContext.request.set(Request({"type": "http", "headers": raw}))  # type: ignore[arg-type]
        return language()

    try:
        assert asked() == "" or say("Stop") == "Stop"
        assert asked(accept_language="fa-IR,fa;q=0.9") == "fa" and say("Stop") != "Stop"
        assert asked(accept_language="de") == "de" and say("Stop") == "Stop"
        assert asked(accept_language="en", cookie="language=fa") == "fa"
        assert asked(accept_language="fa", cookie="language=en") == "en" and say("Stop") == "Stop"
    finally:
        LocalContext.request.set(None)


# ----------------------------------------------------------------------------------------------------- Persian words


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("یک گربه و یک قورباغه", "a cat and a frog"),
        ("ماشین قرمز", "red car"),
        ("ماشینِ قرمز", "red car"),
        ("ماشین قرمزی", "red car"),
        ("گربهٔ سیاه", "black cat"),
        ("گربه‌ی سیاه", "black cat"),
        ("گربه‌ای سیاه سمت چپِ یک ماشین قرمز روی چمن", "a black cat left of a red car on grass"),
        ("لاک پشت زیر نیمکت در شب", "turtle below bench at night"),
        ("خرسی در برف", "a bear in snow"),
        ("موش‌ها، کاسه‌های آبی", "mice, blue bowls"),
        ("كوله پشتي آبي", "blue backpack"),  # with Arabic kaf and yeh
        ("گربه:۱ | سگ:-۰٫۵", "cat: 1 | dog: -0.5"),
        ("گربه: ۱۲ ۳۰ ۷۰ ۹۶\ncat: 1 2 3 4", "cat: 12 30 70 96\ncat: 1 2 3 4"),
        ("a cat", "a cat"),
        ("گربه و کرگدن", "گربه و کرگدن"),  # this world has no rhinoceros
        ("", ""),
    ],
)
def test_persian_words_mean_the_models_words(text, english):
    assert persian.to_english(text) == english


def test_every_caption_comes_back_from_persian():
    captions = [storybook.scene(seed).full_caption for seed in range(200)] + prompt_set()
    assert {persian.to_english(persian.from_english(caption)) for caption in captions} == set(captions)
    assert set(persian.NOUN_WORDS) == {*storybook.NOUNS, *storybook.UNSEEN}
    assert set(persian.COLOUR_WORDS) == set(storybook.COLOURS)
    assert set(storybook.PLACES.values()) | set(storybook.RELATIONS) <= set(persian.OTHER_WORDS)


def test_what_is_no_phrase_of_the_world_stays_as_it_is():
    for text in ("a zebra", "red", "the { of it", "grass cat on", "DINOv2"):
        assert persian.from_english(text) == text or text == "red"
    assert persian.from_english("mice") == "موش‌ها"


def test_fonts_carry_their_licence():
    fonts = ASSETS / "fonts"
    assert "Open Font License" in (fonts / "OFL.txt").read_text(encoding="utf-8")
    assert {Path(name).suffix for name in map(str, fonts.iterdir())} == {".woff2", ".txt"}


def test_no_value_is_worded_as_a_text_that_the_browser_translates(page):
    """Gradio translates whatever is a key, a control's value too, and the control would be set to a translation."""
    values = set()
    for component in page.config["components"]:
        known = component["props"]
        given = known.get("value")
        values |= {each for each in (given if isinstance(given, list) else [given]) if isinstance(each, str)}
        values |= {each[1] for each in known.get("choices") or [] if isinstance(each, list | tuple)}
    assert len(values) > 100 and not values & set(LAYOUT[PERSIAN])
