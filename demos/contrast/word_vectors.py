"""Words from their neighbours: vectors that nobody labelled, live, beside the counts they stand for. Wraps
pipelines/contrast/word_vectors."""

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np

from demos.contrast.drawings import parallelogram
from demos.ui import charts, drawing, film, lab, studies
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.contrast.settings import WordsSettings
from pipelines.contrast.verdicts import WORDS, WORDS_ANSWERS, of_words, probe, words_asked
from pipelines.errors import UserError

if TYPE_CHECKING:
    from pipelines.contrast.corpora import Corpus
    from pipelines.contrast.word_vectors import Step

NAMED, COMPARED = 90, 60  # words that are written beside their points, and that have a row of cosines
FRAMES_EVERY = 20  # steps
PAIRS, NEIGHBOURS, DOTS = 12, 5, 400  # shown: pairs of a sentence, neighbours of a word, pairs of the scatter plot

pipeline = lazily("pipelines.contrast.word_vectors")
projection = lazily("pipelines.projection")


def seconds(settings: WordsSettings) -> float:
    """What a run is expected to take on two cores."""
    return 1 + settings.steps * (0.003 if settings.method == "cbow" else 0.002)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, WORDS.format(**words_asked(WordsSettings())), WORDS_ANSWERS)
            tab.control("corpus")
            with gr.Accordion(t("Your own text"), open=False):
                tab.control("text", lines=6, max_lines=12)
            tab.control("method")
            with gr.Accordion(t("More settings"), open=False):
                for name in ("window", "size", "negatives", "sentences", "steps", "age_told", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            tab.html("beside")
            tab.add("film", film.FilmPlayer(elem_id=tab.id("film")))
            lab.answered(tab)
            tab.html("facts")
            tab.html("labels")
            with gr.Row():
                tab.html("counts", min_width=300)
                tab.html("analogy", min_width=300)
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("steps", "method"))
    tab.quick([tab[name].change for name in ("corpus", "text")], ask_again, ["guess"])


# ----------------------------------------------------------------------------------------------------------- handlers


def word_vectors(settings: WordsSettings, guess: str | None = None) -> Iterator[dict]:
    """Learn a vector of each word from the words that stand near it."""
    guess = lab.guessed(WORDS_ANSWERS, guess)
    lab.affordable(seconds(settings))
    played = None
    for found, due in lab.paced(pipeline.run(settings)):
        played = played or new_film(found)
        if found.step % FRAMES_EVERY == 0 or found.step == found.steps:
            add(played, found)
        if due:
            shown = {"film": played.value(), "status": lab.progress(found.step, found.steps), "verdict": ""}
            yield shown | {"beside": beside(found), "labels": labels(found.corpus, settings.window)}
    assert played is not None
    yield {
        "film": played.value(),
        "status": "",
        "beside": beside(found),
        "facts": facts(found),
        "labels": labels(found.corpus, settings.window),
        "counts": counts(found),
        "analogy": analogy(found),
        "verdict": lab.verdict(of_words(found, guess), WORDS_ANSWERS),
        "numbers": pipeline.numbers(settings, found, guess),
    }


def ask_again(settings: WordsSettings) -> dict | None:
    """The question, with a word of the text that is chosen now."""
    try:
        return {"guess": gr.Radio(label=say(WORDS, **words_asked(settings)))}
    except UserError:  # a text that is not written yet
        return None


# ----------------------------------------------------------------------------------------------------------- the film


def new_film(first: "Step") -> film.Film:
    """The words in the plane, their cosines beside those of one-hot codes, and the curves."""
    corpus = first.corpus
    kinds = corpus.kind
    panels = {
        "words": film.points(
            say("the words (PCA), one colour for each kind"), kinds + 1, int(kinds.max()) + 2, corpus.words[:NAMED]
        ),
        "learned": film.picture(say("learned cosines, words sorted by kind")),
        "codes": film.picture(say("cosines of one-hot codes: no word is near another")),
    }
    curves = {"loss": film.curve(say("loss, nats a word"), [(first.chance, say("chance"))])}
    if first.purity is not None and corpus.kind_chance is not None:
        levels = [(corpus.kind_chance, say("chance")), (first.purity, say("untrained"))]
        curves["purity"] = film.curve(say("3 nearest words of the same kind"), levels, ends=(0, 1))
    if first.analogies is not None:
        curves["analogies"] = film.curve(say("analogies right"), [(first.analogies[2], say("chance"))], ends=(0, 1))
        curves["neighbour"] = film.curve(say("by the nearest neighbour alone"), ends=(0, 1))
    return film.Film([say("{count} words", count=len(corpus.words))], first.steps, panels, curves)


def add(played: film.Film, now: "Step") -> None:
    """The next frame."""
    if now.step:
        played.measure(now.step, loss=[now.loss])
    if now.purity is not None:
        played.measure(now.step, purity=[now.purity])
    if now.analogies is not None:
        played.measure(now.step, analogies=[now.analogies[0]], neighbour=[now.analogies[1]])
    reach = max(1.2 * float(np.quantile(np.abs(now.positions), 0.95)), 1e-9)  # the few beyond lie on the border
    order = compared(now.corpus)
    cosines = now.cosines[np.ix_(order, order)]
    near = ", ".join(word for word, _ in now.neighbours(probe(now.corpus), 3))
    told = say("{word}: near {near}", word=probe(now.corpus), near=near)
    played.frame(
        now.step,
        [told],
        [""],
        words=[projection.as_bytes(now.positions / reach)],
        learned=[drawing.viridis(np.clip(cosines, 0, 1))],
        codes=[drawing.viridis(np.eye(len(order))) if now.step == 0 else None],
    )


def compared(corpus: "Corpus") -> np.ndarray:
    """The commonest words whose kind is known, sorted by kind; the commonest of all where none is."""
    known = np.flatnonzero(corpus.kind >= 0)[:COMPARED]
    if not len(known):
        return np.arange(min(len(corpus.words), COMPARED))
    return known[np.argsort(corpus.kind[known], kind="stable")]


# ------------------------------------------------------------------------------------------------------ what is shown


def beside(found: "Step") -> str:
    """The headline: where the word that was asked about lies now."""
    word = probe(found.corpus)
    near = ", ".join(f"{name} ({cosine:.2f})" for name, cosine in found.neighbours(word, NEIGHBOURS))
    told = say("nearest by cosine, after {step} steps; of one-hot codes all are 0", step=found.step)
    return charts.headline((f"{word}: {near}", told))


def labels(corpus: "Corpus", window: int) -> str:
    """The examples one sentence gives: nobody labelled it."""
    place = max(range(min(40, len(corpus.sentences))), key=lambda n: len(corpus.sentences[n]))
    sentence = " ".join(corpus.words[word] for word in corpus.sentences[place])
    pairs = corpus.pairs(place, window)
    shown = " · ".join(f"{word} → {other}" for word, other in pairs[:PAIRS])
    told = say("One sentence, {count} examples, and the labels are its own words:", count=len(pairs))
    more = " …" if len(pairs) > PAIRS else ""
    return f"<p><b>{html.escape(told)}</b> “{html.escape(sentence)}”<br>{html.escape(shown)}{more}</p>"


def facts(found: "Step") -> str:
    """The numbers beside chance, the untrained vectors, and Linzen's baseline."""
    rows = [
        (say("Loss"), say("{loss} nats", loss=f"{found.loss:.2f}"), say("chance: {loss}", loss=f"{found.chance:.2f}"))
    ]
    first = found.first or found
    if found.purity is not None and found.corpus.kind_chance is not None and first.purity is not None:
        compared_with = say(
            "chance: {chance}, untrained: {untrained}",
            chance=f"{found.corpus.kind_chance:.0%}",
            untrained=f"{first.purity:.0%}",
        )
        rows.append((say("3 nearest words of the same kind"), f"{found.purity:.0%}", compared_with))
    if found.analogies is not None:
        right, neighbour, chance = found.analogies
        rows += [
            (say("Analogies right"), f"{right:.0%}", say("chance: {chance}", chance=f"{chance:.1%}")),
            (
                say("… by the nearest neighbour of c alone"),
                f"{neighbour:.0%}",
                say("what is above it is worth something"),
            ),
        ]
    if found.pmi_fit is not None:
        correlation, error = found.pmi_fit
        told = say("1 = the vectors are the counts; mean distance {error}", error=f"{error:.2f}")
        rows.append((say("w·c against PMI − ln k, correlation"), f"{correlation:.3f}", told))
    return charts.facts(rows)


def counts(found: "Step") -> str:
    """Every pair of words that occurs often enough: what was learned against what the counts say."""
    if found.pmi is None:
        return ""
    learned, expected = found.pmi
    some = np.linspace(0, len(learned) - 1, min(DOTS, len(learned))).round().astype(int)
    title = say("Each dot is a pair of words")
    return charts.scatter(expected[some], learned[some], say("PMI − ln k, from the counts"), say("w·c, learned"), title)


def analogy(found: "Step") -> str:
    """One analogy in the plane of its first three words."""
    if not found.corpus.analogies:
        return ""
    a, b, c, d = found.corpus.analogies[0]
    title = say("{a} is to {b} as {c} is to {d}", a=a, b=b, c=c, d=d)
    return parallelogram(found.parallelogram(a, b, c, d), (a, b, c, d), title)


def measured() -> str:
    """Every text over many seeds."""
    return studies.table(
        "words",
        {
            "purity": (say("3 nearest of its kind"), ".0%"),
            "purity, baseline": (say("chance"), ".0%"),
            "purity_untrained, baseline": (say("untrained"), ".0%"),
            "analogies": (say("analogies"), ".0%"),
            "analogies_nearest_neighbour, baseline": (say("neighbour alone"), ".0%"),
            "analogies, baseline": (say("chance"), ".1%"),
            "pmi_correlation": (say("w·c with PMI − ln k"), ".3f"),
        },
    )


LESSON = Lesson(
    slug="word_vectors",
    title="Words from neighbours",
    chapter="contrast",
    claim="A word is known by the company it keeps: the labels are the text itself.",
    settings=WordsSettings,
    layout=layout,
    main=word_vectors,
    shows=("film", "beside", "labels", "counts", "analogy", "facts", "status", "verdict", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"Good and bad numbers": measured},
)
