"""Every kind of file a visitor may bring gets its documented handling or its own message."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from demos.ui import cache, controls, device, events, pictures
from demos.ui.pictures import read_picture
from tests.demos.served import stepped

GRADIENT = np.stack(np.meshgrid(np.arange(64) * 4, np.arange(48) * 5), -1).astype(np.uint8)


@pytest.fixture
def save(tmp_path):
    def write(image: Image.Image | bytes, name: str = "a.png", **options) -> str:
        path = tmp_path / name
        path.write_bytes(image) if isinstance(image, bytes) else image.save(path, **options)
        return str(path)

    return write


def plain() -> Image.Image:
    return Image.fromarray(np.dstack([GRADIENT, np.full((48, 64), 90, np.uint8)]))


def png_of_size(width: int, height: int) -> bytes:
    """A valid PNG header and a body that inflates to one bit a pixel: a decompression bomb when large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\x00" * ((width // 8 + 1) * min(height, 4000)), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tiff", "no-extension.dat"])
def test_usual_formats_are_read_whatever_the_name_says(save, name):
    given = read_picture(save(plain(), name, format="PNG") if name.endswith("dat") else save(plain(), name))
    assert given.picture.mode == "RGB" and given.picture.size == (64, 48) and given.scene is None


def test_sixteen_bit_is_scaled_not_clipped(save):
    deep = Image.fromarray(GRADIENT[..., 0].astype(np.uint16) * 257)
    shown = np.asarray(read_picture(save(deep)).picture)[..., 0]
    assert np.abs(shown.astype(int) - GRADIENT[..., 0]).max() <= 1


@pytest.mark.parametrize(("top", "kind"), [(1.0, np.float32), (255.0, np.float32), (200, np.int32), (60000, np.int32)])
def test_deep_pictures_keep_their_brightness(save, top, kind):
    ramp = np.linspace(0, 1, 64 * 48).reshape(48, 64)
    pixels = np.asarray(read_picture(save(Image.fromarray((ramp * top).astype(kind)), "a.tiff")).picture).astype(float)
    white = 255 * top / {1.0: 1, 255.0: 255, 200: 255, 60000: 60000}[top]  # see demos/decoding.py
    assert pixels[0, 0].max() <= 1 and pixels[-1, -1] == pytest.approx(white, abs=2)


def test_a_picture_that_was_cleaned_away_is_asked_for_again():
    with pytest.raises(ValueError, match="upload it again"):
        read_picture("/tmp/no-longer-here.png")


def test_transparency_goes_onto_white(save):
    image = plain().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert np.asarray(read_picture(save(image)).picture).min() == 255


@pytest.mark.parametrize("mode", ["P", "L", "1", "CMYK", "LA"])
def test_other_modes_become_rgb(save, mode):
    image = plain().convert(mode)
    given = read_picture(save(image, "a.tiff" if mode == "CMYK" else "a.png"))
    assert np.abs(np.asarray(given.picture).astype(int) - np.asarray(image.convert("RGB"))).mean() < 3


def test_exif_rotation_is_applied(save):
    exif = Image.Exif()
    exif[274] = 6
    assert read_picture(save(plain(), "a.jpg", exif=exif)).picture.size == (48, 64)


def test_animation_gives_its_first_frame(save):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    given = read_picture(save(frames[0], "a.gif", save_all=True, append_images=frames[1:]))
    assert np.asarray(given.picture)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a picture"),
        (b"hello", "not a picture"),
        (b"%PDF-1.7 ...", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"  <?xml version='1.0'?><svg/>", "SVG"),
        (png_of_size(20_000, 20_000), "more than 25 megapixels"),
        (png_of_size(13_000, 13_000), "more than 25 megapixels"),
        (png_of_size(6_000, 5_000), "more than 25 megapixels"),
        (png_of_size(1, 1), "1 by 1 pixels"),
        (png_of_size(1, 20_000), "1 by 20000 pixels"),
    ],
    ids=["empty", "text", "pdf", "svg", "svg-xml", "bomb", "bomb-13000", "30-megapixels", "1x1", "1x20000"],
)
def test_what_is_no_usable_picture_gets_its_own_message(save, content, told):
    with pytest.raises(ValueError, match=told):
        read_picture(save(content))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.tiff"])
def test_truncated_files_are_called_damaged(save, name):
    buffer = io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    noise.save(buffer, {"jpg": "JPEG", "tiff": "TIFF"}.get(name[2:], name[2:].upper()))
    with pytest.raises(ValueError, match="damaged|cannot be|not a picture"):
        read_picture(save(buffer.getvalue()[: len(buffer.getvalue()) // 2], name))


def test_a_hundred_damaged_files_never_raise_anything_else(save):
    rng = np.random.default_rng(0)
    buffers = {}
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        buffers[form] = io.BytesIO()
        plain().save(buffers[form], form)
    for number in range(300):
        data = bytearray(list(buffers.values())[number % 6].getvalue())
        for _ in range(rng.integers(1, 30)):
            data[rng.integers(len(data))] = rng.integers(256)
        try:
            read_picture(save(bytes(data)))
        except ValueError as error:
            assert "Traceback" not in str(error) and "/" not in str(error)


def test_no_file_says_what_to_do():
    with pytest.raises(ValueError, match="Choose or upload"):
        read_picture(None)


# ---- scenes that carry their truth


def test_a_scene_file_brings_its_truth(save):
    image, scene = pictures.scene_picture({"seed": 2_000_000_005})
    given = read_picture(save(image, pnginfo=_info(image)))
    assert given.scene is not None and given.scene.full_caption == scene.full_caption


def test_composed_scene_brings_its_truth(save):
    image, _ = pictures.scene_picture({"text": "a cat left of a red car", "seed": 0})
    assert [o.phrase for o in read_picture(save(image, pnginfo=_info(image))).scene.objects] == ["cat", "red car"]


def test_truth_is_not_taken_on_trust(save):
    image, _ = pictures.scene_picture({"seed": 2_000_000_005})
    info = _info(image)
    image.paste("red", (0, 0, 9, 9))
    assert read_picture(save(image, pnginfo=info)).scene is None


@pytest.mark.parametrize(
    "recipe",
    ['{"seed": "x"}', "[]", "{}", "not json", '{"seed": -1}', '{"text": "zebra", "seed": 1}', '{"seed": 1e400}', "7"],
)
def test_nonsense_in_the_metadata_is_ignored(save, recipe):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(pictures.SCENE_KEY, recipe)
    assert read_picture(save(plain(), pnginfo=info)).scene is None


def _info(image: Image.Image):
    from gradio.processing_utils import get_pil_metadata

    return get_pil_metadata(image)


@pytest.mark.parametrize("name", pictures.PHOTOGRAPHS)
def test_photographs_are_there(name):
    image = pictures.photograph(name)
    assert image.size == (512, 512) and image.mode == "RGB" and np.asarray(image).std() > 10


# ---- numbers over the wire


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.1, 1.1, "0.5", None, True, [0.5]])
def test_numbers_out_of_range_or_of_the_wrong_kind_are_refused(value):
    with pytest.raises(ValueError, match="The ratio must be a number from 0 to 1"):
        controls.number("The ratio", value, 0, 1)


def test_whole_numbers_are_whole():
    assert controls.whole("n", 3.0, 0, 5) == 3
    with pytest.raises(ValueError, match="whole number"):
        controls.whole("n", 2.5, 0, 5)


# ---- the cache and the compute slot


def test_equal_requests_at_once_run_once_and_the_oldest_is_forgotten(scene_image):
    import threading
    import time

    calls = []

    def slow(picture, name):
        calls.append(name)
        time.sleep(0.1)
        return name

    lru_cached = cache.lru_cached(slow, most_bytes=2 * cache.size_of("a"))
    threads = [threading.Thread(target=lru_cached, args=(scene_image, "a")) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["a"]
    for name in ("b", "a", "c", "a", "b"):
        lru_cached(scene_image, name)
    assert calls == ["a", "b", "c", "b"]


def test_a_request_that_failed_keeps_nobody_waiting(scene_image):
    calls = []

    def fails_once(picture):
        calls.append(picture)
        if len(calls) == 1:
            raise RuntimeError
        return "there"

    lru_cached = cache.lru_cached(fails_once)
    with pytest.raises(RuntimeError):
        lru_cached(scene_image)
    assert lru_cached(scene_image) == lru_cached(scene_image) == "there" and len(calls) == 2


def test_heavy_functions_run_one_at_a_time():
    import threading
    import time

    inside, peak = [0], [0]

    def work():
        inside[0] += 1
        peak[0] = max(peak[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1

    threads = [threading.Thread(target=device.on_device(work)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert peak == [1]


def test_unexpected_errors_show_nothing_of_their_inside(caplog):
    def broken():
        raise RuntimeError("/secret/path")

    run = stepped(events.event(broken)())
    next(run)
    with pytest.raises(Exception, match="Something went wrong") as caught:
        next(run)
    assert "/secret/path" not in str(caught.value) and "/secret/path" in caplog.text


def test_long_requests_end_at_their_limit():
    import time

    def endless():
        while True:
            time.sleep(0.05)
            yield 1

    with pytest.raises(Exception, match="Stopped after"):
        for _ in stepped(events.event(endless, seconds=0.2)()):
            pass
