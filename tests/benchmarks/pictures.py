"""Pictures to measure with."""

from demos.ui import pictures
from pipelines.world import storybook


def scene_files(folder: str, count: int) -> list[str]:
    files = []
    for i in range(count):
        image, _ = pictures.scene_picture({"seed": storybook.TEST[1000 + i]})
        files.append(f"{folder}/{i}.png")
        image.save(files[-1])
    return files
