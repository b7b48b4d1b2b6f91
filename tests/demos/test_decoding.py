"""The right pixels come out of every kind of file: modes, formats, depths, transparency, orientations, sizes."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from demos.ui import decoding
from pipelines.errors import UserError
from pipelines.world import storybook

SIZES = [(16, 16), (17, 33), (96, 64), (16, 400)]
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True, "exact": True}, "BMP": {}, "TIFF": {}}
LOSSY = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}, "GIF": {}}
UPRIGHT = {  # EXIF 2.3, tag 274: what the stored rows and columns of an upright picture are
    1: lambda u: u,
    2: lambda u: u[:, ::-1],
    3: lambda u: u[::-1, ::-1],
    4: lambda u: u[::-1],
    5: lambda u: u.swapaxes(0, 1),
    6: lambda u: u[:, ::-1].swapaxes(0, 1),
    7: lambda u: u[::-1, ::-1].swapaxes(0, 1),
    8: lambda u: u[::-1].swapaxes(0, 1),
}


def colours(size=(96, 64)) -> np.ndarray:
    """(H, W, 3) smooth, and different in every corner."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    return (np.dstack([x, y, 1 - x * y]) * 230 + 10).astype(np.uint8)


def greys(size=(96, 64)) -> np.ndarray:
    return colours(size)[..., 0] // 2 + colours(size)[..., 1] // 2


def saved(image: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def read(data: bytes) -> np.ndarray:
    """(H, W, 3) int, what the models are given."""
    return np.asarray(decoding.on_white(decoding.decode(data).image)).astype(int)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[274] = orientation
    return found


def chunk(kind: bytes, body: bytes, check: int | None = None) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check or zlib.crc32(kind + body))


def png(samples: np.ndarray, depth: int, colour_type: int, *extra: bytes) -> bytes:
    """A PNG of (H, W) or (H, W, C) samples of that depth, with further chunks before the pixels."""
    height, width = samples.shape[:2]
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    elif depth == 8:
        rows = [row.astype(np.uint8).tobytes() for row in samples]
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., -depth:]
        rows = [np.packbits(row.reshape(-1)).tobytes() for row in bits]
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return decoding.SIGNATURE + chunk(b"IHDR", head) + b"".join(extra) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(samples: np.ndarray, **options) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, samples, **options)
    return out.getvalue()


# ---------------------------------------------------------------------------------- formats, modes, sizes, orientations


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_keep_every_pixel(form, mode, size):
    image = Image.fromarray(colours(size)).convert(mode)
    try:
        data = saved(image, form, **LOSSLESS[form])
    except OSError:
        pytest.skip(f"{form} has no {mode}")
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(read(data) - expected).max() <= (1 if mode == "CMYK" else 0)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("form", LOSSY)
def test_lossy_formats_stay_close(form, size):
    assert np.abs(read(saved(Image.fromarray(colours(size)), form, **LOSSY[form])) - colours(size)).mean() < 8


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_every_orientation_is_turned_upright(form, orientation, size):
    stored = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](colours(size))))
    options = LOSSLESS.get(form) or LOSSY.get(form) or {}
    found = read(saved(stored, form, exif=exif(orientation), **options))
    assert found.shape == colours(size).shape
    assert np.abs(found - colours(size)).mean() < (4 if form == "JPEG" else 0.01)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    data = saved(Image.fromarray(colours()), "PNG", exif=exif(orientation))
    assert np.array_equal(read(data), colours())


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_deep_and_transparent_pictures_are_turned_too(orientation):
    deep = np.ascontiguousarray(UPRIGHT[orientation](greys())).astype(np.uint16) * 257
    key = int(deep[0, 0])
    turned = chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
    found = read(png(deep, 16, 0, chunk(b"tRNS", struct.pack(">H", key)), turned))
    assert np.array_equal(found[..., 1], np.where(greys() == key // 257, 255, greys()))


# ---------------------------------------------------------------------------------------------------------------- depth


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("keyed", [False, True], ids=["opaque", "keyed"])
def test_grey_png_of_every_depth_with_and_without_a_transparent_value(depth, keyed):
    most = 2**depth - 1
    samples = (greys() / 255 * most).round().astype(int)
    key = int(samples[5, 5])
    found = read(png(samples, depth, 0, *([chunk(b"tRNS", struct.pack(">H", key))] if keyed else [])))
    expected = np.round(samples * 255 / most)
    expected = np.where(samples == key, 255, expected) if keyed else expected
    assert np.abs(found - expected[..., None]).max() <= 1


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("keyed", [False, True], ids=["opaque", "keyed"])
def test_colour_png_of_every_depth_with_and_without_a_transparent_value(depth, keyed):
    samples = colours().astype(int) * (257 if depth == 16 else 1)
    samples[:20, :30] = (key := tuple(np.array([0x55F0, 0x1234, 0xAB01]) >> (16 - depth)))
    found = read(png(samples, depth, 2, *([chunk(b"tRNS", struct.pack(">HHH", *key))] if keyed else [])))
    expected = np.round(samples / (2**depth - 1) * 255)
    if keyed:
        expected[:20, :30] = 255
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_png_with_partly_transparent_entries(depth):
    count = 2**depth
    entries = np.random.default_rng(0).integers(0, 256, (count, 3))
    opacity = np.linspace(0, 255, count).round().astype(int)
    places = np.arange(96 * 64).reshape(64, 96) % count
    palette = chunk(b"PLTE", entries.astype(np.uint8).tobytes())
    found = read(png(places, depth, 3, palette, chunk(b"tRNS", opacity.astype(np.uint8).tobytes())))
    share = opacity[places][..., None] / 255
    assert np.abs(found - (entries[places] * share + 255 * (1 - share))).max() <= 2


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [2, 4])
def test_png_with_an_alpha_channel(depth, channels):
    opacity = greys().astype(int)
    parts = colours().astype(int) if channels == 4 else greys()[..., None].astype(int)
    samples = np.concatenate([parts, opacity[..., None]], -1) * (257 if depth == 16 else 1)
    share = opacity[..., None] / 255
    found = read(png(samples, depth, 4 if channels == 2 else 6))
    assert np.abs(found - (parts * share + 255 * (1 - share))).max() <= 2


RAMP = np.tile(np.linspace(0, 1, 96), (64, 1))


@pytest.mark.parametrize("top", [1, 1.01, 3, 200, 255, 256, 1000, 65535, 65536, 1e6, 2e9, 1e30])
@pytest.mark.parametrize("kind", ["float32", "float64", "int16", "int32", "uint32"])
def test_numbers_without_a_white_of_their_own_rise_from_dark_to_light_whatever_their_size(kind, top):
    if kind[0] != "f" and not 255 <= top <= np.iinfo(kind).max:
        pytest.skip("too small, or too large, for whole numbers of this kind")
    try:
        found = read(tiff((RAMP * top).astype(kind)))[32, :, 0]
    except UserError:
        assert kind == "float64"
        return
    assert np.abs(found - RAMP[32] * 255).max() <= 2


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_white_has_no_cliffs(kind):
    """A little more light in one pixel, or in all, changes the others only a little."""
    for top in np.geomspace(200, 80_000, 60):
        one, other = (read(tiff((RAMP * t).astype(kind)))[:, 48, 0].mean() for t in (top, top * 1.01 + 1))
        assert abs(one - other) <= 3
    spot = (RAMP * 200).astype(kind)
    spot[0, 0] = 10**6
    assert np.abs(read(tiff(spot)) - read(tiff((RAMP * 200).astype(kind))))[1:].max() <= 70


def test_what_keeps_to_the_usual_range_is_shown_as_it_is():
    assert np.abs(read(tiff((RAMP * 0.5).astype(np.float32)))[..., 0] - RAMP * 127.5).max() <= 1
    assert np.abs(read(tiff((RAMP * 100).astype(np.int32)))[..., 0] - RAMP * 100).max() <= 1


@pytest.mark.parametrize("kind", ["float32", "int16", "int32", "int8"])
def test_negative_values_are_darker_than_none(kind):
    found = read(tiff(((RAMP - 0.5) * 254).astype(kind)))[32, :, 0]
    assert found[0] <= 2 and np.all(np.diff(found) >= 0) and 80 < found[48] < 160


def test_what_is_no_number_is_black_and_infinity_is_white():
    odd = RAMP.astype(np.float32).copy()
    odd[0, 0:3] = np.nan, np.inf, -np.inf
    found = read(tiff(odd))[..., 0]
    assert found[0, 0:3].tolist() == [0, 255, 0]
    assert np.abs(found[1:] - RAMP[1:] * 255).max() <= 1
    with pytest.raises(UserError, match="finite number"):
        read(tiff(np.full((64, 96), np.nan, np.float32)))


def test_white_is_zero_in_deep_pictures_too():
    for kind in (np.uint8, np.uint16, np.float32):
        most = 1 if kind is np.float32 else np.iinfo(kind).max
        found = read(tiff((RAMP * most).astype(kind), photometric="miniswhite"))[32, :, 0]
        assert np.abs(found - (255 - RAMP[32] * 255)).max() <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["u2", "f4", "i4"])
def test_byte_order_does_not_matter(order, kind):
    most = {"u2": 65535, "f4": 1, "i4": 255}[kind]
    assert np.abs(read(tiff((RAMP * most).astype(kind), byteorder=order))[32, :, 0] - RAMP[32] * 255).max() <= 1


def test_sixteen_bit_colours():
    found = read(tiff(colours().astype(np.uint16) * 257, photometric="rgb"))
    assert np.abs(found - colours()).max() <= 1


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_what_cannot_be_represented_is_refused_in_our_words(kind):
    with pytest.raises(UserError, match="unusual way"):
        read(tiff(colours().astype(kind) / 255, photometric="rgb"))


# ------------------------------------------------------------------------------------------ transparency, other colours


@pytest.mark.parametrize(("extra", "given"), [("unassalpha", "plain"), ("assocalpha", "premultiplied")])
@pytest.mark.parametrize("depth", [8, 16])
def test_tiff_with_alpha_plain_and_premultiplied(extra, given, depth):
    opacity = np.maximum(greys(), 40).astype(float)
    share = opacity[..., None] / 255
    parts = colours() * share if given == "premultiplied" else colours().astype(float)
    samples = (np.concatenate([parts, opacity[..., None]], -1) * (257 if depth == 16 else 1)).round()
    data = tiff(samples.astype(f"uint{depth}"), photometric="rgb", extrasamples=[extra])
    assert np.abs(read(data) - (colours() * share + 255 * (1 - share))).max() <= 3


def test_palette_with_alpha():
    image = Image.fromarray(colours()).quantize(64)
    image = image.convert("PA")
    image.putalpha(Image.fromarray(np.where(greys() > 120, 255, 0).astype(np.uint8)))
    found = read(saved(image, "TIFF"))
    assert (found[greys() <= 120] == 255).all() and np.abs(found - colours())[greys() > 120].mean() < 12


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_transparent_gif_and_webp(form):
    image = Image.fromarray(colours()).convert("RGBA")
    image.putalpha(Image.fromarray(np.where(greys() > 120, 255, 0).astype(np.uint8)))
    found = read(saved(image, form, **LOSSLESS.get(form, {})))
    assert (found[greys() <= 120] == 255).all() and np.abs(found - colours())[greys() > 120].mean() < 8


def test_cmyk_as_adobe_writes_it_and_as_tiff_does():
    image = Image.fromarray(colours()).convert("CMYK")
    assert np.abs(read(saved(image, "TIFF")) - colours()).max() <= 1
    assert np.abs(read(saved(image, "JPEG", quality=95)) - colours()).mean() < 4  # inverted in the file


def test_lab():
    lightness = np.full((64, 96, 3), (137, 0, 0), np.uint8)  # TIFF 6.0, section 23: L* 53.7, a* and b* 0
    assert np.abs(read(tiff(lightness, photometric="cielab")) - 128).max() <= 2  # as grey in sRGB


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames(form):
    first, *others = (Image.fromarray(np.roll(colours(), n * 20, 1)) for n in range(3))
    options = {"lossless": True} if form == "WEBP" else {}
    found = read(saved(first, form, save_all=True, append_images=others, **options))
    assert np.abs(found - colours()).mean() < 8


# ------------------------------------------------------------------------------------------------------------- metadata

GARBAGE = [
    b"",
    b"Exif\0\0garbage, no TIFF header",
    b"II*\0\xff\xff\xff\xff",
    b"MM\0*\0\0\0\x08\xff\xff",
    bytes(range(256)),
]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_broken_exif_turns_nothing(form, garbage):
    image = Image.fromarray(colours())
    if form == "TIFF":  # its own tags are its EXIF; a pointer to further ones may lead anywhere
        found = read(saved(image, form, tiffinfo={34665: 10**9, 700: garbage, 34675: garbage}))
    elif form == "PNG":
        found = read(png(colours(), 8, 2, chunk(b"eXIf", garbage)))
    else:
        found = read(saved(image, form, exif=garbage, **(LOSSLESS.get(form) or LOSSY[form])))
    assert np.abs(found - colours()).mean() < 4 and found.shape == colours().shape


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"note\0" + b"x" * 10, check=1),
        chunk(b"iCCP", b"name\0\0not zlib"),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(40_000_000))),
        chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(40_000_000))),
        chunk(b"iTXt", b"note\0\1\0\0\0" + zlib.compress(bytes(40_000_000))),
        chunk(b"tEXt", b"note\0" + bytes(5_000_000)),
        chunk(b"pHYs", b""),
        chunk(b"gAMA", b"\0"),
        chunk(b"cHRM", b"\0"),
        chunk(b"acTL", b""),
        chunk(b"aaAa", b"of another program"),
    ],
    ids=lambda extra: f"{extra[4:8].decode()}-{len(extra)}",
)
def test_metadata_of_a_png_never_decides_about_its_pixels(extra):
    assert np.array_equal(read(png(colours(), 8, 2, extra)), colours())


def test_damaged_metadata_of_a_jpeg_never_decides_about_its_pixels():
    """Every byte of the segments that do not draw, but for their lengths."""
    told = {"exif": exif(1), "icc_profile": bytes(3000), "comment": b"a note" * 20, "xmp": b"<x:xmpmeta/>" * 9}
    whole = saved(Image.fromarray(colours()), "JPEG", **LOSSY["JPEG"], **told)
    pixels, rng, place = read(whole), np.random.default_rng(0), 2
    while whole[place + 1] in (*range(0xE0, 0xF0), 0xFE):
        kind, (length,) = whole[place + 1], struct.unpack_from(">H", whole, place + 2)
        for _ in range(0 if kind in (0xE0, 0xEE) else 40):  # JFIF and Adobe do say something about colours
            damaged = bytearray(whole)
            for at in rng.integers(place + 4, place + 2 + length, 12):
                damaged[at] = rng.integers(256)
            found = read(bytes(damaged))
            assert found.size == pixels.size and (found.shape != pixels.shape or np.array_equal(found, pixels))
        place += 2 + length


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_damaged_files_are_read_or_refused_in_our_words(form):
    image, rng = Image.fromarray(colours()), np.random.default_rng(1)
    whole = saved(image, form, **({"exif": exif(6)} if form in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
    for number in range(150):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)] if number % 3 == 0 else whole)
        for at in rng.integers(0, min(len(damaged), 400 if number % 2 else len(damaged)), rng.integers(1, 20)):
            damaged[at] = rng.integers(256)
        try:
            assert read(bytes(damaged)).shape[2] == 3
        except UserError as refusal:
            assert len(str(refusal)) > 20


# ------------------------------------------------------------------------------------ truth that travels with a picture


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("turned_before", [False, True], ids=["tag alone", "pixels and tag"])
def test_truth_follows_the_pictures_orientation_or_is_dropped(tmp_path, orientation, turned_before):
    from demos.ui import pictures

    image, scene = pictures.scene_picture({"seed": storybook.TEST[3]})
    info = PngImagePlugin.PngInfo()
    info.add_text(pictures.SCENE_KEY, image.info[pictures.SCENE_KEY])
    pixels = UPRIGHT[orientation](scene.picture) if turned_before else scene.picture
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "a.png", pnginfo=info, exif=exif(orientation))
    given = pictures.read_picture(str(tmp_path / "a.png"))
    if turned_before or orientation == 1:
        assert np.array_equal(given.picture, scene.picture) and given.scene.full_caption == scene.full_caption
    else:
        assert given.scene is None


def test_only_one_place_opens_what_a_visitor_brings():
    """In the tabs; bytes of a run that pipelines/recording.py has checked are no upload."""
    from pathlib import Path

    for file in Path(decoding.__file__).parents[1].rglob("*.py"):
        opened = [line for line in file.read_text(encoding="utf-8").splitlines() if "Image.open(" in line]
        allowed = ("io.BytesIO(run.", "io.BytesIO(kept.", "package.origin")
        assert file.name == "decoding.py" or all(any(word in line for word in allowed) for line in opened), file.name


@pytest.mark.parametrize("size", [(16, 1000), (16, 30_000), (65_500, 16)], ids=str)
@pytest.mark.parametrize(
    "name", ["self_distillation", "token_removal", "reconstruction", "detection", "diffusion", "clip_synthesis"]
)
def test_elongated_pictures_are_taken_or_refused_in_our_words(name, size):
    """By every pipeline that takes a picture."""
    import importlib

    from pipelines.models.loading import load
    from pipelines.models.text_to_image import TextToImage

    pipeline, picture = importlib.import_module(f"pipelines.{name}.pipeline"), Image.new("RGB", size, "red")
    if name == "detection":
        if max(size) <= pipeline.MOST_ELONGATED * min(size):
            found = pipeline.encode(picture, "cat", "storybook-grounding-dino")
            assert found.size == size and np.isfinite(found.boxes).all()
            return
        with pytest.raises(UserError, match="at most 64 times as long as wide"):
            pipeline.encode(picture, "cat", "storybook-grounding-dino")
    elif name == "diffusion":
        assert np.isfinite(pipeline.encode(load("storybook-diffusion", TextToImage), picture).numpy()).all()
    elif name == "clip_synthesis":
        assert pipeline.pixels_of(picture, 64).shape == (1, 3, 64, 64)
    else:
        found = pipeline.encode(picture, "storybook-detailclip")
        shown = getattr(found, "picture", None) if name != "self_distillation" else found.pictures[0]
        assert np.allclose(shown, (1, 0, 0), atol=0.02)
