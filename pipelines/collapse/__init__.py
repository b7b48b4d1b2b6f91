"""Lessons on collapse: what keeps a network that learns without labels from calling everything the same.

`settings` and `verdicts` know no torch: a page reads its controls, questions and answers from them before anything
heavy is imported. Every other module is one lesson, whose `run` yields what the page shows, step by step.
"""
