"""Draw the sheets of many drawings by many hands (`pipelines.world.drawings`), with manifest, contact sheets, credits.

    pip install "resvg-py>=0.5"  # draws SVG; only needed here
    for set in noto noto-v1 fluent-emoji fluent-emoji-flat fxemoji twemoji emojione streamline-emojis streamline-color \
        streamline-plump-color streamline-ultimate-color streamline-stickies-color flat-color-icons; do
        mkdir -p icons/$set && tar xz -C icons/$set < $(npm pack @iconify-json/$set); done
    apt-get download openclipart-svg && dpkg-deb -x openclipart-svg*.deb clipart
    python -m pipelines.training.hands --icons icons --clipart clipart/usr/share/openclipart/svg

Run once; its output is committed in `assets/sprites/hands/`. Without arguments only the contact sheets and the credits
are made again, from what is committed: every drawing and every recolouring is to be looked at there.

What counts as a drawing of a noun: the whole animal or its face, alone and complete; no second expression of the same
face, no picture with a ground, a frame or a person in it, no set whose licence asks for sharing alike. Wherever two
drawings are nearly one (the flat and the shaded Fluent, a cat and the same cat in black), they are held out together.
"""

import argparse
import functools
import hashlib
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipelines.evaluation.clip import write_between
from pipelines.world import drawings, storybook
from pipelines.world.drawings import SHEETS, SIDE, hue_saturation_value

SETS = {  # hand, title, author, licence, where it comes from
    "noto": ("noto", "Noto Emoji", "Google", "Apache-2.0", "https://github.com/googlefonts/noto-emoji"),
    "noto-v1": ("noto-v1", "Noto Emoji (v1)", "Google", "Apache-2.0", "https://github.com/googlefonts/noto-emoji"),
    "fluent-emoji": ("fluent", "Fluent Emoji", "Microsoft", "MIT", "https://github.com/microsoft/fluentui-emoji"),
    "fluent-emoji-flat": (
        "fluent-flat",
        "Fluent Emoji Flat",
        "Microsoft",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    "twemoji": ("twemoji", "Twemoji", "Twitter and contributors", "CC-BY-4.0", "https://github.com/jdecked/twemoji"),
    "emojione": ("emojione", "Emoji One 2.3", "EmojiOne", "CC-BY-4.0", "https://github.com/EmojiTwo/emojitwo"),
    "fxemoji": ("fxemoji", "Firefox OS Emoji", "Mozilla", "Apache-2.0", "https://github.com/mozilla/fxemoji"),
    **{
        name: (hand, title, "Streamline", "CC-BY-4.0", "https://github.com/webalys-hq/streamline-vectors")
        for name, hand, title in (
            ("streamline-emojis", "streamline", "Streamline Emojis"),
            ("streamline-color", "icons", "Streamline Color"),
            ("streamline-plump-color", "icons", "Streamline Plump Color"),
            ("streamline-ultimate-color", "icons", "Streamline Ultimate Color"),
            ("streamline-stickies-color", "icons", "Streamline Stickies Color"),
        )
    },
    "flat-color-icons": ("icons", "Flat Color Icons", "Icons8", "MIT", "https://github.com/icons8/flat-Color-icons"),
    "openclipart": ("clipart", "Open Clip Art", "many", "public domain", "https://openclipart.org"),
    "patchlight": ("patchlight", "drawn for this project", "Patchlight", "Apache-2.0", ""),
}
EMOJI_SETS = tuple(SETS)[:8]

# Names under which the emoji sets know a noun; the plainest first.
EMOJI = {
    "cat": "cat cat-face black-cat",
    "dog": "dog dog-face poodle service-dog",
    "bird": "bird bird-1 bird-2 dove duck eagle parrot owl black-bird",
    "bear": "bear bear-face polar-bear teddy-bear",
    "lion": "lion lion-face",
    "horse": "horse horse-face horseface",
    "elephant": "elephant",
    "monkey": "monkey monkey-face monkeyface",
    "frog": "frog frog-face frogface",
    "turtle": "turtle",
    "rabbit": "rabbit rabbit-face bunny bunnyside",
    "mouse": "mouse mouse-face mouseface rat",
    "backpack": "backpack school-backpack schoolsatchel",
    "glasses": "glasses glasses-1 glasses-2 sunglasses",
    "crown": "crown",
    "suitcase": "luggage briefcase",
    "chair": "chair seat",
    "balloon": "balloon",
    "bow": "ribbon bow",
    "car": "automobile oncoming-automobile taxi oncoming-taxi sport-utility-vehicle",
    "bowl": "bowl-with-spoon green-salad steaming-bowl steamingbowl",
    "clock": "alarm-clock alarmclock mantelpiece-clock three-oclock clock3oclock",
    "apple": "red-apple redapple",
}
# The same drawing in other colours, or nearly: held out with it.
TWINS = {"black-cat": "cat", "black-bird": "bird", "bear-face": "bear", "lion-face": "lion", "frog-face": "frog"}
WRONG = {"fxemoji:sunglasses", "streamline-emojis:sunglasses", "emojione:duck", "twemoji:steaming-bowl"}

ICONS = {
    "dog": "streamline-plump-color:dog-1",
    "elephant": "streamline-ultimate-color:circus-elephant",
    "backpack": "streamline-stickies-color:backpack streamline-color:backpack-flat",
    "crown": "streamline-color:crown streamline-color:crown-flat",
    "suitcase": "flat-color-icons:briefcase streamline-plump-color:suitcase-rolling streamline-color:baggage-flat",
    "chair": "streamline-ultimate-color:office-chair streamline-color:chair",
    "balloon": "streamline-ultimate-color:party-balloon streamline-plump-color:balloon",
    "car": "streamline-ultimate-color:car-retro streamline-ultimate-color:car-4 streamline-ultimate-color:taxi "
    "streamline-stickies-color:taxi streamline-color:car-taxi-1",
    "bowl": "streamline-plump-color:bowl-chop-stick",
    "clock": "flat-color-icons:alarm-clock flat-color-icons:clock streamline-plump-color:circle-clock "
    "streamline-ultimate-color:time-clock-circle",
}

CLIPART = {  # below the folder of the package, by glob
    "cat": "animals/mammals/cartoon_cat_gerald_g._01 animals/mammals/housecats/gatto_cat_architetto_fra_0[1234] "
    "animals/mammals/housecats/kitten_gerald_g._01",
    "dog": "animals/mammals/dog_01_drawn_with_strai_01 animals/mammals/dog_0[346]_drawn_with_strai_01 "
    "animals/mammals/dog_05_drawn_with_strai_01 animals/mammals/dogs/beagle_copper_ganson "
    "animals/mammals/dogs/bobi_* animals/mammals/dogs/bored_dog_01",
    "bird": "animals/birds/bird_of_peace_mauro_oliv_01 animals/birds/jonathon_s_duck_01 "
    "animals/birds/gull_marcelo_staudt_01 animals/birds/gufo_* animals/birds/simbolo_* "
    "animals/birds/dove_symbol animals/birds/acquila_architetto_franc_0[23]",
    "bear": "animals/mammals/bears/orso_architetto_francesc_0[134] animals/mammals/bears/ours_etienne_bersac_r "
    "recreation/toys/simple_teddy_bear_gerald_01 recreation/toys/stylized_teddy_bear_gera_01 "
    "recreation/toys/*teddy*jarno*",
    "lion": "animals/mammals/big_cats/leone_*",
    "horse": "animals/mammals/horses/cavallo_architetto_franc_0[1-7]",
    "elephant": "animals/mammals/elefante0[12]_*",
    "monkey": "animals/mammals/happy_monkey_benji_park_01 animals/mammals/monkey_head_nicu_buculei_01",
    "frog": "animals/rana0[123]_*",
    "turtle": "animals/turtle_jurgen_gaeremyn_01",
    "rabbit": "animals/mammals/coniglio_* animals/mammals/skoynk_peterm_",
    "mouse": "animals/mammals/topo_*",
    "glasses": "people/clothing/sunglasses_01",
    "suitcase": "transportation/little_tan_suitcase_jona_",
    "chair": "buildings/furniture/sedia_in_legno_* buildings/furniture/poltrona_*",
    "balloon": "recreation/party/balloon-red-aj",
    "car": "transportation/vehicles/car transportation/car_jamin_ellis_ transportation/blazer_01 "
    "transportation/sportcar_sergio_luiz_ara_01 transportation/vehicles/road_runner_ganson "
    "transportation/skoda_car_alejandro_teja_",
    "bowl": "food/bowl_chaspo_ food/soup_jarno_vasamaa_ food/bowl_of_steaming_soup_01",
    "clock": "signs_and_symbols/clocks/alarm_clock_mike_powers_ signs_and_symbols/clocks/modern_clock_chris_kemps_01 "
    "signs_and_symbols/clocks/analog_clock_jonathan_di_01 signs_and_symbols/clocks/analogue_clock_01 "
    "signs_and_symbols/clocks/clock03 computer/icons/lemon-theme/apps/clock",
    "apple": "food/fruit/an_apple_01 food/fruit/another_apple_01 food/fruit/apple food/fruit/apple_bw "
    "food/fruit/apple_bitten_dan_gerhard_01 food/fruit/cartoon_apple_k_yager_01 "
    "food/fruit/apple_martin_schmidt-li_01r",
}


def _planks(colour: str, edge: str, tops: tuple[int, ...], height: int, left: int = 4, width: int = 120) -> str:
    return "".join(
        f'<rect x="{left}" y="{y}" width="{width}" height="{height}" rx="2" fill="{colour}" {edge}/>' for y in tops
    )


INK = 'stroke="#222" stroke-width="3" stroke-linejoin="round"'
OWN: dict[str, dict[str, str]] = {
    "bench": {  # nobody else drew one: SVG on a ground of 128x96
        "park": _planks("#ab713f", "", (8, 22, 36, 56), 11)
        + '<path d="M14 4h9v86h-9zM105 4h9v86h-9z" fill="#5f5a57"/><path d="M4 56h120v6H4z" fill="#c48954"/>',
        "outlined": f'<g {INK}><path d="M16 8v80M112 8v80" stroke-width="8"/>'
        + _planks("#d99a55", "", (10, 28), 13)
        + _planks("#e8b375", "", (54,), 14, 2, 124)
        + "</g>",
        "backless": '<path d="M18 40h14l-8 48H12zM96 40h14l6 48h-12z" fill="#7a4a26"/>'
        '<rect x="2" y="26" width="124" height="18" rx="5" fill="#b5763c"/>'
        '<rect x="2" y="26" width="124" height="7" rx="3" fill="#d0945a"/>',
        "iron": '<g fill="none" stroke="#4a4a50" stroke-width="6" stroke-linecap="round">'
        '<path d="M20 90q4-26-2-32T14 8"/>'
        '<path d="M108 90q-4-26 2-32T114 8"/><path d="M18 58q-18-4-12-18M110 58q18-4 12-18"/></g>'
        + _planks("#8f5a30", "", (12, 21, 30, 39), 6, 12, 104)
        + _planks("#a56c3d", "", (55, 63), 6, 8, 112),
        "aslant": '<path d="M22 40l70-24 10 4-70 25z" fill="#c08148"/><path d="M22 26l70-24v9L22 36z" fill="#a96d3a"/>'
        '<path d="M22 38l70-24v6L22 45z" fill="#8a562b"/><path d="M20 56l74-26 26 12-72 30z" fill="#cf9257"/>'
        '<path d="M48 72l72-30v6l-72 31z" fill="#94602f"/><path d="M20 56l28 16v7L20 62z" fill="#7d4e26"/>'
        '<path d="M22 28h6v58h-6zM88 6h6v50h-6zM48 76h6v20h-6zM112 50h6v26h-6z" fill="#5c3a1e"/>',
        "cartoon": f'<g {INK}><path d="M12 60h12v32H12zM104 60h12v32h-12z" fill="#c46f2d"/>'
        '<rect x="8" y="6" width="112" height="34" rx="12" fill="#f0a04b"/>'
        '<path d="M24 40h12v12H24zM92 40h12v12H92z" fill="#c46f2d"/>'
        '<rect x="2" y="50" width="124" height="16" rx="8" fill="#f7b76a"/></g>',
        "flat": '<path d="M20 6h6v84h-6zM102 6h6v84h-6z" fill="#3d3d45"/>'
        + _planks("#e0a060", "", (6, 20), 10, 6, 116)
        + _planks("#c98646", "", (50,), 9, 2, 124)
        + '<path d="M8 40h6v20H8zM114 40h6v20h-6z" fill="#3d3d45"/>',
        "shaded": '<defs><linearGradient id="w" x2="0" y2="1"><stop stop-color="#d9a066"/><stop offset="1" '
        'stop-color="#8a5426"/></linearGradient></defs>'
        + _planks("url(#w)", "", (4, 18, 32), 12, 10, 108)
        + '<path d="M4 54h120l4 10H0z" fill="url(#w)"/><path d="M0 64h128v6H0z" fill="#6d401c"/>'
        '<path d="M12 70h10v24H12zM106 70h10v24h-10zM18 44h6v10h-6zM104 44h6v10h-6z" fill="#6d401c"/>',
        "school": f'<g {INK}><path d="M20 44l-8 48M108 44l8 48M30 72h68" fill="none" stroke-width="6"/>'
        + _planks("#b97a42", "", (30, 42), 11, 2, 124)
        + "</g>",
        "picnic": '<g fill="#9c6a3a"><path d="M30 8h8v40h-8zM90 8h8v40h-8z"/></g>'
        + _planks("#c9925a", "", (6, 16, 26), 7, 16, 96)
        + '<path d="M10 46h108l8 18H2z" fill="#b88049"/><path d="M6 55h116" stroke="#7d5128" stroke-width="2"/>'
        '<path d="M2 64h124v5H2z" fill="#7d5128"/><path d="M10 69h9v25h-9zM109 69h9v25h-9z" fill="#8a5a2e"/>',
    },
    "bow": {
        "tied": '<path d="M64 44C40 6 6 8 8 26s-2 30 6 40 36-2 50-18c14 16 42 28 50 18s4-22 6-40S88 6 64 44z" '
        'fill="#d8433f"/>'
        '<path d="M58 54L34 94l18-6 12-30 12 30 18 6-24-40z" fill="#b23330"/>'
        '<rect x="53" y="34" width="22" height="26" rx="9" fill="#e9635c"/>',
        "plain": f'<g {INK}><path d="M60 48L10 16q-8 32 0 64zM68 48l50-32q8 32 0 64z" fill="#f06a9b"/>'
        '<path d="M58 48l-24-8M58 50l-22 10M70 48l24-8M70 50l22 10" fill="none"/>'
        '<circle cx="64" cy="48" r="13" fill="#f48fb5"/></g>',
        "long": '<path d="M60 30C44 4 16 2 14 16s22 30 46 22zM68 30C84 4 112 2 114 16s-22 30-46 22z" fill="#3f7fd0"/>'
        '<path d="M60 26C48 12 28 8 26 16s16 18 34 16zM68 26c12-14 32-18 34-10s-16 18-34 16z" fill="#2b5da3"/>'
        '<path d="M58 38C50 60 44 76 26 92l16-2 6 6c12-18 16-36 18-56zM70 38c8 22 14 38 32 54l-16-2-6 6'
        'C68 78 64 60 62 40z" '
        'fill="#3f7fd0"/><ellipse cx="64" cy="34" rx="9" ry="11" fill="#5b98e2"/>',
    },
    "crown": {
        "three": '<path d="M12 84L4 24l32 26L64 8l28 42 32-26-8 60z" fill="#e8b62c"/>'
        '<path d="M11 72h106v14H11z" fill="#c8921a"/><circle cx="64" cy="10" r="8" fill="#e8b62c"/>'
        '<circle cx="6" cy="24" r="6" fill="#e8b62c"/><circle cx="122" cy="24" r="6" fill="#e8b62c"/>',
        "round": f'<g {INK}><path d="M14 40q10 4 16 20Q40 22 64 14q24 8 34 46 6-16 16-20l-6 48H20z" fill="#f6cf4f"/>'
        '<path d="M20 74h88v14H20z" fill="#e0a92f"/><circle cx="64" cy="12" r="8" fill="#e0a92f"/>'
        '<circle cx="64" cy="50" r="8" fill="#e05a5a"/></g>',
    },
}
GROUND = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 96" width="128" height="96">{}</svg>'

# What finds the painted pixels where the commonest hue of a thing is not what is to be painted.
DARK, LIGHT = [["gray", -0.1, 0.55]], [["gray", 0.72, 1.1]]
PAINT: dict[str, list] = {
    **dict.fromkeys(("noto:sunglasses", "noto-v1:sunglasses", "twemoji:sunglasses", "emojione:sunglasses"), DARK),
    **dict.fromkeys(("openclipart:sunglasses_01", "emojione:briefcase", "fxemoji:steamingbowl"), DARK),
    "openclipart:modern_clock_chris_kemps_01": DARK,
    "emojione:glasses": [["gray", -0.1, 0.75]],
    **dict.fromkeys(("noto:green-salad", "noto-v1:green-salad", "noto:steaming-bowl"), LIGHT),
    **dict.fromkeys(("emojione:green-salad", "openclipart:apple_bw"), [["gray", 0.55, 1.1]]),
    **dict.fromkeys(("fluent-emoji:green-salad", "fluent-emoji-flat:green-salad"), [["gray", 0.5, 1.1]]),
    "twemoji:green-salad": [["gray", 0.25, 0.78]],
    "noto:three-oclock": [["hue", 197, 46], ["gray", 0.4, 0.93]],
    **dict.fromkeys(("fluent-emoji:three-oclock", "fluent-emoji-flat:three-oclock"), [["gray", 0.2, 0.6]]),
    "twemoji:three-oclock": [["gray", 0.45, 0.8]],
    "emojione:three-oclock": [["gray", 0.2, 0.6]],
    "openclipart:alarm_clock_mike_powers_": [["gray", -0.1, 0.72]],
    "openclipart:analogue_clock_01": [["gray", 0.3, 1.1]],
}


# -------------------------------------------------------------------------------------------------------- the pictures


def render(svg: str, side: int = 4 * SIDE) -> Image.Image:
    """RGBA, `side` pixels wide, cropped to what is not transparent."""
    import resvg_py

    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side)))).convert("RGBA")
    return image.crop(image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox())


@functools.cache
def icon_set(folder: Path) -> dict:
    return json.loads((folder / "icons.json").read_text(encoding="utf-8"))


def icon(folder: Path, name: str) -> str | None:
    """The SVG of a picture of an Iconify set, None if the set has none of this name."""
    data = icon_set(folder)
    body = data["icons"].get(name) or data["icons"].get(data.get("aliases", {}).get(name, {}).get("parent"))
    if body is None:
        return None
    width, height = (body.get(side, data.get(side, 16)) for side in ("width", "height"))
    box = f"{body.get('left', 0)} {body.get('top', 0)} {width} {height}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}" width="{width}" height="{height}">{body["body"]}</svg>'


def clip_art(file: Path) -> str:
    """The SVG of a file, with a size that every renderer understands: many of these say theirs in points alone."""
    text = file.read_text(encoding="utf-8", errors="replace")
    tag = re.search(r"<svg\b[^>]*>", text, re.S)
    assert tag is not None, "no SVG"
    start = tag[0]
    points = {"pt": 1.25, "mm": 3.543307, "cm": 35.43307, "in": 90, "px": 1, "": 1}  # user units, as Inkscape had them

    def length(name: str) -> float:
        found = re.search(rf'\s{name}="([\d.]+)\s*(\w*)"', start)
        return float(found[1]) * points[found[2]] if found else 800.0

    size = length("width"), length("height")
    opening = re.sub(r'\s(width|height)="[^"]*"', "", start)
    if "viewBox" not in opening:
        opening = f'{opening[:-1]} viewBox="0 0 {size[0]} {size[1]}">'
    seen = re.search(r'viewBox="([^"]*)"', opening)
    assert seen is not None, "just written"
    box = seen[1].replace(",", " ").split()
    return f'{opening[:-1]} width="{box[2]}" height="{box[3]}">{text[tag.end() :]}'


def sources(icons: Path, clipart: Path) -> list[tuple[str, str, str]]:
    """(noun, "set:name", SVG) of every drawing; a picture that a set has under two names once."""
    found, seen = [], set()

    def add(noun: str, name: str, svg: str | None) -> None:
        if svg is not None and svg not in seen and name not in WRONG:
            seen.add(svg)
            found.append((noun, name, svg))

    folders = {file.parent.parent.name: file.parent for file in icons.glob("*/package/icons.json")}
    for noun in storybook.NOUNS:
        for which in EMOJI_SETS:
            for name in EMOJI.get(noun, "").split():
                add(noun, f"{which}:{name}", icon(folders[which], name))
        for name in ICONS.get(noun, "").split():
            add(noun, name, icon(folders[name.split(":")[0]], name.split(":")[1]))
        for pattern in CLIPART.get(noun, "").split():
            for file in sorted(clipart.glob(f"{pattern}.svg")):
                add(noun, f"openclipart:{file.stem}", clip_art(file))
        for name, body in OWN.get(noun, {}).items():
            add(noun, f"patchlight:{name}", GROUND.format(body))
    return found


def paint_of(noun: str, name: str, image: Image.Image) -> list[list]:
    """What finds the pixels of a thing that take another colour: by PAINT, or the hue that covers most of it."""
    if noun in storybook.ANIMALS:
        return []
    if name in PAINT:
        return PAINT[name]
    rgba = np.asarray(image, np.float32) / 255
    hue, saturation, value = hue_saturation_value(rgba[..., :3])
    weight = (saturation > 0.3) * (rgba[..., 3] > 0.5) * (value > 0.15) * saturation
    counts, _ = np.histogram(hue, bins=72, range=(0, 360), weights=weight)
    smooth = np.sum([np.roll(counts, shift) for shift in range(-3, 4)], axis=0)
    return [["hue", int(smooth.argmax()) * 5 + 2, 46]]


def columns(listed: list[dict]) -> None:
    """Give every drawing its column: of the drawings of each noun that are not by a new hand, one in six is held out,
    together with its twins; which one, a hash of its name decides."""
    for noun in storybook.NOUNS:
        groups: dict[str, list[dict]] = {}
        for each in listed:
            if each["noun"] == noun:
                each["column"] = "new hands" if each["hand"] in drawings.NEW_HANDS else "known"
                if each["column"] == "known":
                    which, name = each["name"].split(":")
                    group = which.removesuffix("-flat"), TWINS.get(name, name)
                    groups.setdefault(f"{noun}/{group[0]}:{group[1]}", []).append(each)
        order = sorted(groups, key=lambda key: hashlib.sha256(key.encode()).hexdigest())
        held, wanted = 0, sum(map(len, groups.values())) / 6
        for key in order:
            if held < max(1, round(wanted)) and len(groups[key]) <= max(1, wanted + 1):
                held += len(groups[key])
                for each in groups[key]:
                    each["column"] = "new drawings"


def packed(images: list[Image.Image], width: int = 1024) -> tuple[Image.Image, list[list[int]]]:
    """One sheet with all images, in rows, and the box of each."""
    boxes, x, y, tallest = [], 0, 0, 0
    for image in images:
        if x + image.width > width:
            x, y, tallest = 0, y + tallest + 2, 0
        boxes.append([x, y, *image.size])
        x, tallest = x + image.width + 2, max(tallest, image.height)
    sheet = Image.new("RGBA", (width, y + tallest))
    for image, (left, top, _, _) in zip(images, boxes, strict=True):
        sheet.paste(image, (left, top))
    return sheet, boxes


def make(icons: Path, clipart: Path) -> None:
    """Write the sheets and the manifest."""
    SHEETS.mkdir(parents=True, exist_ok=True)
    listed: list[dict] = []
    images = []
    for noun, name, svg in sources(icons, clipart):
        image = render(svg)
        scale = SIDE / max(image.size)
        size = [max(1, round(side * scale)) for side in image.size]
        image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
        hand = SETS[name.split(":")[0]][0]
        listed.append({"noun": noun, "hand": hand, "name": name, "paint": paint_of(noun, name, image)})
        images.append(image)
    columns(listed)
    for hand in drawings.HANDS:
        mine = [i for i, each in enumerate(listed) if each["hand"] == hand]
        sheet, boxes = packed([images[i] for i in mine])
        sheet.save(SHEETS / f"{hand}.webp", lossless=True, quality=100, method=6)
        for i, place in zip(mine, boxes, strict=True):
            listed[i]["box"] = place
    lines = ",\n".join(" " + json.dumps(each) for each in listed)
    (SHEETS / "manifest.json").write_text('{"drawings": [\n' + lines + "\n]}\n", encoding="utf-8")


# ------------------------------------------------------------------------------------------------- sheets for a person


def contact_sheet(chosen: list[tuple[drawings.Drawing, str | None]], cell: int = 64, across: int = 24) -> Image.Image:
    """Drawings in colours, on a light ground, held-out ones on a darker one."""
    sheet = Image.new("RGB", (across * cell, -(-len(chosen) // across) * cell), (226, 232, 236))
    grounds = {"known": None, "new drawings": (190, 206, 222), "new hands": (226, 200, 178)}
    for i, (drawing, colour) in enumerate(chosen):
        x, y = i % across * cell, i // across * cell
        if grounds[drawing.column]:
            ImageDraw.Draw(sheet).rectangle((x, y, x + cell - 1, y + cell - 1), fill=grounds[drawing.column])
        image = drawings.picture(drawing, storybook.COLOURS[colour] if colour else None).convert("RGBa")
        scale = (cell - 8) / SIDE
        size = [max(1, round(side * scale)) for side in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS).convert("RGBA")
        sheet.paste(image, (x + (cell - size[0]) // 2, y + (cell - size[1]) // 2), image)
    return sheet


def by_noun() -> list[tuple[drawings.Drawing, str | None]]:
    return [(d, None) for noun in storybook.NOUNS for d in drawings.drawings(noun)]


def recolourings(noun: str) -> list[tuple[drawings.Drawing, str | None]]:
    return [(d, colour) for d in drawings.drawings(noun) for colour in (None, *storybook.COLOURS)]


def credits() -> str:
    """The table of `CREDITS.md`."""
    counts = Counter(d.name.split(":")[0] for d in drawings.drawings())
    lines = ["| set | hand | by | licence | drawings | from |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {title} | {drawings.HANDS[hand]} | {author} | {licence} | {counts[key]} | {source or '`hands.py`'} |"
        for key, (hand, title, author, licence, source) in SETS.items()
    ]
    return "\n".join(lines)


def noun_table() -> str:
    lines = ["| noun | known | new drawings | new hands |", "|---|---|---|---|"]
    for noun in storybook.NOUNS:
        lines.append(f"| {noun} | " + " | ".join(str(len(drawings.drawings(noun, None, c))) for c in drawings.COLUMNS))
        lines[-1] += " |"
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icons", type=Path, help="folder of the unpacked Iconify sets")
    parser.add_argument("--clipart", type=Path, help="folder of Debian's openclipart-svg")
    arguments = parser.parse_args()
    if arguments.icons and arguments.clipart:
        make(arguments.icons, arguments.clipart)
    contact_sheet(by_noun()).save(SHEETS / "contact_sheet.webp", quality=80, method=6)
    chosen = [each for noun in storybook.THINGS for each in recolourings(noun)]
    contact_sheet(chosen, 36, 12 * 4).save(SHEETS / "recolourings.webp", quality=75, method=6)
    write_between(SHEETS / "CREDITS.md", "sets", credits())
    write_between(SHEETS / "CREDITS.md", "nouns", noun_table())


if __name__ == "__main__":
    main()
