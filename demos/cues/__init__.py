"""It is right; but what did it look at? The lessons of the chapter Cues. Each module is one."""

from demos.cues import order, scramble, texture_shape, transfer, universal

LESSONS = [texture_shape.LESSON, scramble.LESSON, order.LESSON, universal.LESSON, transfer.LESSON]
