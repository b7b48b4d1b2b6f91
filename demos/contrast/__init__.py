"""Meaning is made by telling apart: the lessons of the chapter Contrast. Each module is one."""

from demos.contrast import matrix

LESSONS = [matrix.LESSON]
