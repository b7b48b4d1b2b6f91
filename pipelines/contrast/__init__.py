"""Meaning is made by telling apart: contrastive losses that can be read number by number. One file per lesson.

    matrix.py        pictures by captions: CLIP's loss, its softmax, its derivative in closed form
    information.py   what such a loss can know: never more than ln N
    negatives.py     negatives that are none, and negatives that count most: debiased and hard losses, read and trained
    word_vectors.py  words from their neighbours: skip-gram and CBOW, beside the counts they stand for
    corpora.py       the texts they are learned from
    planes.py        vectors as points of a film

Each lesson has `Settings`; `run(settings, ...)`, which returns or yields records; `QUESTION`, a template of the values
`asked(settings)`; `ANSWERS` and `verdict(record, guess)`, which computes the right one from the run; and
`numbers(settings, record, guess)` for an endpoint. Runs that take time are generators, which end when they are closed.
`N` is the number of pairs, `E` the length of a vector.
"""
