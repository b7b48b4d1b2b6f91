"""It is right; but what did it look at? Lessons on the cues a network uses, and on those it cannot see.

`settings` and `verdicts` know no torch: a page reads its controls, questions and answers from them before anything
heavy is imported. Every other module is one lesson.

    equivariance   functions of neighbours: which of them do not care in what order the neighbours are listed
    positions      what tells a transformer the order again
    scramble       pictures in pieces: who still names them, and which task needs the order
    pieces         how they are cut
    small          small networks that learn while a class watches
    texture_shape  which of two perfect cues a network takes
    photographs    a shape in the skin of a photograph
    transfer       four things a model has never met, with what it learned of others
    universal      one noise for all pictures
    namers         networks that name a picture, with a gradient

The `run(settings, ...)` of a lesson returns or yields records; those that take time are generators, which end when they
are closed. `numbers(settings, record, guess)` is the JSON of its endpoint.
"""
