"""Collapse: what keeps a network that learns without labels from calling everything the same."""

from demos.collapse import batches, crops, greedy, lab, packing, pretext

LESSONS = [lab.LESSON, batches.LESSON, crops.LESSON, pretext.LESSON, greedy.LESSON, packing.LESSON]
