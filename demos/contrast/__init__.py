"""Meaning is made by telling apart: the lessons of the chapter Contrast. Each module is one."""

from demos.contrast import information_bound, matrix, negatives, readers, word_vectors

LESSONS = [matrix.LESSON, information_bound.LESSON, negatives.LESSON, readers.LESSON, word_vectors.LESSON]
