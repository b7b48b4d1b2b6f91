"""Collapse: what keeps a network that learns without labels from calling everything the same."""

from demos.collapse import lab

LESSONS = [lab.LESSON]
