"""Cut the sprites of the storybook world out of Noto Color Emoji, draw the bench, and lay out the contact sheet.

    python -m pipelines.training.sprites --font NotoColorEmoji.ttf

Run once; its output is committed in `assets/sprites/`. The font is in Debian's `fonts-noto-color-emoji`. `--sheet-only`
redraws `contact_sheet.png` from the committed sprites, which is how every recolouring is looked at.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pipelines.world import storybook

EMOJI = {
    "cat": "\U0001f408",
    "dog": "\U0001f415",
    "bird": "\U0001f426",
    "bear": "\U0001f43b",
    "lion": "\U0001f981",
    "horse": "\U0001f40e",
    "elephant": "\U0001f418",
    "monkey": "\U0001f412",
    "frog": "\U0001f438",
    "turtle": "\U0001f422",
    "rabbit": "\U0001f407",
    "mouse": "\U0001f401",
    "backpack": "\U0001f392",
    "glasses": "\U0001f453",
    "crown": "\U0001f451",
    "suitcase": "\U0001f9f3",
    "chair": "\U0001fa91",
    "balloon": "\U0001f388",
    "bow": "\U0001f380",
    "car": "\U0001f697",
    "bowl": "\U0001f963",
    "clock": "\u23f0",
    "apple": "\U0001f34e",
    "tree": "\U0001f333",
    "fox": "\U0001f98a",
    "umbrella": "\u2602",
    "bus": "\U0001f68c",
}


def cut_emoji(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """One glyph as RGBA, cropped to its opaque part. The bitmap font has a single size, 136x128 pixels."""
    glyph = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
    ImageDraw.Draw(glyph).text((0, 0), character, font=font, embedded_color=True)
    return glyph.crop(glyph.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox())


def draw_bench(scale: int = 4) -> Image.Image:
    """A wooden park bench seen from the front, drawn at `scale` times its size and reduced, for smooth edges."""
    wood, light, dark, iron = (171, 113, 64), (196, 137, 84), (128, 80, 44), (96, 60, 34)
    image = Image.new("RGBA", (128 * scale, 92 * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)

    def plank(left: int, top: int, right: int, bottom: int, colour: tuple[int, int, int]) -> None:
        box = [left * scale, top * scale, right * scale, bottom * scale]
        draw.rounded_rectangle(box, radius=2 * scale, fill=colour)
        draw.rectangle([box[0] + 2 * scale, box[1], box[2] - 2 * scale, box[1] + 2 * scale], fill=light)

    for left in (14, 104):  # uprights and legs
        plank(left, 2, left + 10, 90, iron)
    for top in (6, 20, 34):  # back
        plank(2, top, 126, top + 11, wood)
    for left in (6, 112):  # arm rests
        plank(left, 40, left + 10, 60, dark)
    plank(0, 54, 128, 66, wood)  # seat, its front edge, then the legs in front of it
    plank(0, 66, 128, 71, dark)
    for left in (8, 110):
        plank(left, 71, left + 10, 92, iron)
    return image.resize((128, 92), Image.Resampling.LANCZOS)


def contact_sheet(cell: int = 72) -> Image.Image:
    """Every sprite in every colour it can have, on a light and a dark half, for a person to look at."""
    columns = 1 + len(storybook.COLOURS)
    rows = len(storybook.THINGS) + (len(storybook.ANIMALS) + len(storybook.UNSEEN) + columns - 1) // columns
    sheet = Image.new("RGB", (columns * cell, rows * cell), (214, 222, 228))
    pictures = [
        (row, column, noun, colour)
        for row, noun in enumerate(storybook.THINGS)
        for column, colour in enumerate((None, *storybook.COLOURS))
    ]
    pictures += [
        (len(storybook.THINGS) + i // columns, i % columns, noun, None)
        for i, noun in enumerate((*storybook.ANIMALS, *storybook.UNSEEN))
    ]
    for row, column, noun, colour in pictures:
        sprite = Image.fromarray(storybook.sprite(noun, colour, cell - 12))
        corner = column * cell + (cell - sprite.width) // 2, row * cell + (cell - sprite.height) // 2
        sheet.paste(sprite, corner, sprite)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--font", default="NotoColorEmoji.ttf", help="path of the font file")
    parser.add_argument("--sheet-only", action="store_true", help="only redraw contact_sheet.png")
    parser.add_argument("--out", type=Path, default=storybook.SPRITES, help="folder to write")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.sheet_only:
        font = ImageFont.truetype(arguments.font, 109)
        for noun, character in EMOJI.items():
            cut_emoji(font, character).save(arguments.out / f"{noun}.png", optimize=True)
        draw_bench().save(arguments.out / "bench.png", optimize=True)
    contact_sheet().save(arguments.out / "contact_sheet.png", optimize=True)


if __name__ == "__main__":
    main()
