"""When the number you watch is not the number you want.

`settings` and `verdicts` know no torch: a page reads its controls, questions and answers from them before anything
heavy is imported. Every other module is one lesson.

    players     generator and discriminator: equal losses, other pictures
    architect   a controller that learns which networks to train, beside random search and evolution
    children    the table of all networks it can choose from

The `run(settings, ...)` of a lesson yields records and ends when it is closed. `numbers(settings, record, guess)` is
the JSON of its endpoint.
"""
