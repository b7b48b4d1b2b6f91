"""It is right; but what did it look at? The lessons of the chapter Cues. Each module is one."""

from demos.cues import order

LESSONS = [order.LESSON]
