import io
import struct
import warnings
import zlib

import media_samples as samples
import numpy as np
import pytest
from PIL import Image

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.grounding import draw
from paddlemix_qwenvl.media import load_image, preprocess_images, process_vision_info
from paddlemix_qwenvl.media.arguments import flat_images
from paddlemix_qwenvl.media.pixels import eight_bits, from_array, on_white

INK = (200, 30, 60)


def stamp() -> Image.Image:
    """Ink on the right, black that is transparent on the left, half of it in the middle."""
    pixels = np.zeros((60, 90, 4), np.uint8)
    pixels[:, 60:] = (*INK, 255)
    pixels[:, 30:60, 3] = 128
    return Image.fromarray(pixels)


def painted() -> Image.Image:
    image = stamp().convert("RGB").quantize().convert("PA")
    image.putalpha(stamp().getchannel("A"))
    return image


def keyed(mode: str, key, **info) -> Image.Image:
    """Black on the left, white on the right; the black is transparent."""
    pixels = np.zeros((60, 90), bool)
    pixels[:, 60:] = True
    image = Image.fromarray(pixels).convert("L" if mode.startswith("I") else mode)
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    image.info |= {"transparency": key, **info}
    return image


TRANSPARENT = {
    "RGBA": stamp(),
    "LA": stamp().convert("LA"),
    "PA": painted(),
    "RGBa": stamp().convert("RGBa"),
    "La": stamp().convert("LA").convert("La"),
    "P with an alpha for each colour": stamp().quantize(),
    "P with a transparent colour": keyed("P", 0),
    "1": keyed("1", 0),
    "L": keyed("L", 0),
    "RGB": keyed("RGB", (0, 0, 0)),
    "I;16": keyed("I;16", 0),
    "I": keyed("I", 0),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_whatever_is_transparent_lies_on_white_wherever_it_enters(kind):
    image = TRANSPARENT[kind]
    image.info["original_size"] = (900, 600)
    white = on_white(image)
    assert white.mode == "RGB" and white.info == {"original_size": (900, 600)}
    assert np.asarray(white)[:, :30].min() == 255
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La")
    right = stamp().convert("LA" if image.mode in ("LA", "La") else "RGBA").convert("RGB").getpixel((80, 30))
    assert white.getpixel((80, 30)) == (right if has_alpha or kind.endswith("each colour") else (255, 255, 255))
    if has_alpha:
        assert np.asarray(white)[:, 30:60].tolist() == np.full((60, 30, 3), 127).tolist()
    content = [{"image": image, "min_pixels": 784}, {"video": [image], "min_pixels": 784}]
    images, (video,) = process_vision_info([{"role": "user", "content": content}])
    assert np.asarray(images[0])[5, 5].tolist() == video.frames[0, :, 5, 5].tolist() == [255, 255, 255]
    assert np.asarray(draw(image, []))[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(flat_images([image])[0], white)


def test_a_path_and_an_array_lie_on_white_in_the_processor_too(tmp_path):
    stamp().save(tmp_path / "a.png")
    wanted = preprocess_images([on_white(stamp())])["pixel_values"]
    for source in (tmp_path / "a.png", np.asarray(stamp())):
        assert np.array_equal(preprocess_images([source])["pixel_values"], wanted)


def png(bits: int, colour: int, row: bytes, width: int, key: bytes) -> bytes:
    """A PNG of one row with a transparent colour, as Pillow does not write it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize(
    ("bits", "colour", "row", "key", "wanted"),
    [
        (1, 0, b"\x40", (1,), [0, 255]),
        (2, 0, b"\x60", (1,), [255, 170]),
        (4, 0, b"\x5a", (5,), [255, 170]),
        (8, 0, b"\x55\xaa", (85,), [255, 170]),
        (16, 0, b"\x12\x34\xaa\xaa", (0x1234,), [255, 170]),
        (8, 2, bytes([1, 2, 3, 9, 9, 9]), (1, 2, 3), [255, 9]),
        (16, 2, struct.pack(">6H", 0x1234, 0x1234, 0x1234, 0x0909, 0x0909, 0x0909), 3 * (0x1234,), [255, 9]),
    ],
)
def test_the_transparent_colour_of_a_png_of_any_depth(tmp_path, bits, colour, row, key, wanted):
    (tmp_path / "a.png").write_bytes(png(bits, colour, row, 2, struct.pack(f">{len(key)}H", *key)))
    assert np.asarray(on_white(load_image(tmp_path / "a.png")))[0].tolist() == [3 * [value] for value in wanted]


@pytest.mark.parametrize(
    ("image", "key"),
    [
        (keyed("RGB", (0, 0, 0)).getchannel(0), (0, 0, 0)),
        (keyed("L", None), None),
        (keyed("RGB", 0), 0),
        (keyed("I;16", b"a"), b"a"),
    ],
    ids=["band", "none", "index", "bytes"],
)
def test_a_transparent_colour_of_another_mode_is_none(image, key):
    white = on_white(image)
    assert white.getpixel((0, 0)) == (0, 0, 0)
    assert image.info["transparency"] == key


def test_pictures_without_transparency_are_converted_as_before():
    for mode in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        image = samples.picture("RGB", 40, 30).convert(mode)
        white = on_white(image)
        assert np.array_equal(white, image.convert("RGB"))
        assert white is not image


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[False, True]]), [0, 255]),
        (np.array([[0, 255]], np.uint8), [0, 255]),
        (np.array([[0, 128, 129, 65535]], np.uint16), [0, 0, 1, 255]),
        (np.array([[0, 200]], ">u2"), [0, 1]),
        (np.array([[0, 255]], np.int32), [0, 255]),
        (np.array([[0, 257, 65535]], np.int64), [0, 1, 255]),
        (np.array([[0, 32896]], np.uint32), [0, 128]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 127, 255]),
        (np.array([[0, 1]], np.float64), [0, 255]),
        (np.array([[0.4, 254.6]], np.float16), [0, 255]),
    ],
    ids=lambda value: getattr(value, "dtype", None),
)
def test_values_become_eight_bits(values, wanted):
    pixels, _ = eight_bits(values)
    assert pixels.dtype == np.uint8 and pixels[0].tolist() == wanted
    assert np.asarray(from_array(values)[0])[0].tolist() == wanted


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[-1, 3]], np.int16), "values run from -1 to 3"),
        (np.array([[0, 65536]], np.int32), "values run from 0 to 65536"),
        (np.array([[-0.5, 0.5]], np.float32), "values run from -0.5 to 0.5"),
        (np.array([[0, 255.5]], np.float32), "values run from 0.0 to 255.5"),
        (np.array([[0, np.nan]], np.float32), "values run from nan to nan"),
        (np.array([[0, np.inf]], np.float32), "values run from 0.0 to inf"),
    ],
    ids=lambda value: getattr(value, "dtype", None),
)
def test_values_without_a_scale_are_refused_with_their_range(values, message):
    for source in (values, Image.fromarray(values.astype(np.int32 if values.dtype.kind == "i" else np.float32))):
        with pytest.raises(MediaError, match=f"Cannot read .*: {message}; give whole numbers"):
            process_vision_info([{"role": "user", "content": [{"image": source}]}])


@pytest.mark.parametrize(("mode", "format"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF"), ("F", "TIFF")])
def test_files_deeper_than_eight_bits_are_scaled(mode, format):
    ramp = np.linspace(0, 1, 256)[None].repeat(4, 0)
    values = ramp.astype(np.float32) if mode == "F" else (ramp * 65535).astype(">u2" if mode == "I;16B" else "<u2")
    file = io.BytesIO()
    Image.fromarray(values).save(file, format)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = np.asarray(on_white(load_image(Image.open(file))))
    assert np.abs(pixels[0, :, 0] - np.arange(256.0)).max() <= 1
    assert pixels[0, [0, -1], 0].tolist() == [0, 255]


def test_a_dark_pnm_of_sixteen_bits_stays_dark():
    file = io.BytesIO(b"P5 2 1 65535\n" + struct.pack(">2H", 0, 250))
    assert np.asarray(on_white(load_image(Image.open(file))))[0, 1].tolist() == [1, 1, 1]
