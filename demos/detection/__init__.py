"""Find: what is named is looked for, and where *yes* begins is a choice. Each module is a lesson."""

from demos.detection import boxes, masks, threshold

LESSONS = [boxes.LESSON, masks.LESSON, threshold.LESSON]
