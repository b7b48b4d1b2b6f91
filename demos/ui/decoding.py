"""The one place where a file that somebody brings becomes pixels.

Metadata never decides whether pixels can be read: of a PNG only the chunks that draw are given to the decoder, and an
orientation that cannot be read is none. What has more than eight bits is scaled as `_eight_bits` says.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from demos.ui.text import say
from pipelines.errors import UserError

MIN_SIDE = 16  # pixels
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
Image.MAX_IMAGE_PIXELS = 12_500_000  # Pillow raises above twice this, before it decodes anything
FAILURES = (  # of Pillow's decoders and readers of metadata, found by damaging files
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError),
    *(ZeroDivisionError, MemoryError, NotImplementedError, RuntimeError, struct.error, zlib.error),
)
SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # of EXIF; the ways to turn a picture upright are Pillow's names for its values 2 to 8
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WHITE_IS_ZERO, BITS, PHOTOMETRIC, SAMPLE_FORMAT = 0, 258, 262, 339  # TIFF 6.0, sections 8 and 19
SIGNED = 2  # a value of SAMPLE_FORMAT


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Pixels, upright."""

    image: Image.Image  # RGB, or RGBA where something may be seen through
    texts: dict[str, str]  # tEXt of a PNG


def decode(data: bytes) -> Decoded:
    """The first frame of a picture file, turned as its EXIF says.

    Raises:
        UserError: for a file that is no picture, a damaged one, an SVG, one too large or too small.
    """
    if data[:512].lstrip().lower().startswith((b"<?xml", b"<svg")):
        raise UserError(say("SVG drawings are not pictures made of pixels. Export it as PNG first."))
    png = _Png(data) if data.startswith(SIGNATURE) else None
    try:
        image = Image.open(io.BytesIO(png.drawn if png else data), formats=FORMATS)
    except UnidentifiedImageError:
        raise UserError(
            say(
                "This file is not a picture that can be read, or keeps its pixels in an unusual way. Save it as an "
                "ordinary PNG, JPEG, WebP, GIF, BMP or TIFF."
            )
        ) from None
    except Image.DecompressionBombError:
        raise UserError(say("This picture has more than 25 megapixels, the limit. Make it smaller first.")) from None
    except FAILURES:
        raise _damaged() from None
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise UserError(
            say("This picture is {width} by {height} pixels; each side needs at least 16.", width=width, height=height)
        )
    try:
        image.load()
        upright = _upright(image, png.exif if png else image.info.get("exif", b""))
        return Decoded(image=_plain(upright, png, getattr(image, "tag_v2", {})), texts=png.texts if png else {})
    except UserError:
        raise
    except (*FAILURES, Image.DecompressionBombError):
        raise _damaged() from None


def on_white(image: Image.Image) -> Image.Image:
    """RGB; what shines through is white."""
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _damaged() -> UserError:
    return UserError(say("This picture is damaged or incomplete. Save it again and retry."))


class _Png:
    """The chunks of a PNG: those that draw as a file of their own, and what else is of use here."""

    def __init__(self, data: bytes):
        self.exif, self.texts, self.key = b"", {}, b""
        kept, place = [SIGNATURE], len(SIGNATURE)
        while place + 12 <= len(data):
            (length,), kind = struct.unpack_from(">I", data, place), data[place + 4 : place + 8]
            body = data[place + 8 : place + 8 + length]
            if kind[:1].isupper() or kind == b"tRNS":  # critical, as the specification says by the case of the letter
                kept.append(data[place : place + 12 + length])
            if kind == b"tRNS":
                self.key = body
            elif kind == b"eXIf":
                self.exif = body
            elif kind == b"tEXt" and b"\0" in body:
                name, text = body.split(b"\0", 1)
                self.texts[name.decode("latin-1")] = text.decode("latin-1")
            place += 12 + length
        self.drawn = b"".join(kept)
        self.depth, self.colours = data[24:26] if len(data) > 25 else (0, 0)  # of IHDR, which comes first

    def clear(self, image: Image.Image) -> np.ndarray | None:
        """(H, W) bool: pixels of the one colour that a picture without palette and alpha says is transparent.

        Pillow compares it with pixels it has scaled from 2 or 4 bits, and not at all with those of 16. It reads 16-bit
        colours as 8, so of those the upper halves are compared.
        """
        if self.colours not in (0, 2) or len(self.key) < 2 + 2 * self.colours:
            return None
        key = np.frombuffer(self.key[: 2 + 2 * self.colours], ">u2").astype(int)
        if self.colours == 2:
            return (np.asarray(image.convert("RGB")) == (key >> 8 if self.depth == 16 else key)).all(-1)
        return np.asarray(image).astype(int) == (key if self.depth == 16 else key * 255 // (2**self.depth - 1))


def _upright(image: Image.Image, exif: bytes) -> Image.Image:
    """Turned as its EXIF says; Pillow has turned a TIFF already."""
    if image.format == "TIFF":
        return image
    found = Image.Exif()
    try:
        found.load(exif)
        turn = TURNS.get(found.get(ORIENTATION, 1))
    except FAILURES:
        turn = None
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image, png: _Png | None, tiff) -> Image.Image:
    """RGB, or RGBA where something may be seen through."""
    clear = png.clear(image) if png else None
    signed = tiff.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    if image.mode.startswith(("I", "F")) or (signed and image.mode == "L"):
        image = _eight_bits(image, tiff.get(BITS, (16,))[0], signed, tiff.get(PHOTOMETRIC) == WHITE_IS_ZERO)
    if clear is not None:
        image = image.convert("RGB")
        image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
        return image
    if image.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
        assert converted is not None, "only a conversion in place gives nothing"
        return converted
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("RGB")


def _eight_bits(image: Image.Image, bits: int, signed: bool, white_is_zero: bool) -> Image.Image:
    """A grey picture of numbers as one of 8 bits. Each kind has one rule without a step in it.

    - Whole numbers of up to 16 bits without a sign: white is the largest there is, 2^bits - 1.
    - Others have no white of their own. It is the brightest value, the highest thousandth left out so that one hot
      pixel does not make everything else black; but at least 1 for floats, and 255 (or the largest) for whole numbers,
      so that what keeps to the usual range is shown as it is. Black is 0, or where there are negative values, the
      darkest one, found in the same way.
    - Infinity is as bright as white, minus infinity black; what is not a number is black.

    Raises:
        UserError: where no pixel is a finite number.
    """
    values = np.asarray(image)
    if bits == 32 and image.mode == "I" and not signed:
        values = values.view(np.uint32)
    if bits == 8:
        values = values.view(np.int8)
    if image.mode.startswith("I;16"):
        black, white = 0, 2**bits - 1
    else:
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise UserError(say("No pixel of this picture is a finite number. Export it as PNG with 8 bits a channel."))
        low, high = np.percentile(finite, (0.1, 99.9))
        usual = 1 if image.mode == "F" else min(255, 2 ** (bits - 1) - 1)
        black, white = min(0, low), max(usual, high)
    with np.errstate(invalid="ignore"):
        grey = ((values.astype(np.float64) - black) * (255 / (white - black))).clip(0, 255)
    grey = np.nan_to_num(grey).round().astype(np.uint8)
    return Image.fromarray(255 - grey if white_is_zero else grey)
