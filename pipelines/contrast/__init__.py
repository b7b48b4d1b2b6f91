"""Meaning is made by telling apart: contrastive losses that can be read number by number.

`settings` and `verdicts` know no torch: a page reads its controls, questions and answers from them before anything
heavy is imported. Every other module is one lesson.

    matrix        pictures by captions: CLIP's loss, its softmax, its derivative in closed form
    information   what such a loss can know: never more than ln N
    negatives     false negatives and hard negatives: debiased and hard losses, read and trained
    word_vectors  words from their neighbours: skip-gram and CBOW, beside the counts they stand for
    corpora       the texts they are learned from

The `run(settings, ...)` of a lesson returns or yields records; those that take time are generators, which end when they
are closed. `numbers(settings, record, guess)` is the JSON of its endpoint. `N` is the number of pairs, `E` the length
of a vector.
"""
