"""When the number you watch is not the number you want: the lessons of the chapter Games. Each module is one."""

from demos.games import architect, players

LESSONS = [players.LESSON, architect.LESSON]
