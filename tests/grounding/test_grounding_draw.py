"""Drawn shapes lie where the items say, labels can be read, and no character is drawn as an empty frame unsaid."""

import io
import itertools
import warnings

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import ExifTags, Image, ImageFont

from paddlemix_qwenvl.errors import GroundingError
from paddlemix_qwenvl.grounding import Item, draw, fonts, parse
from paddlemix_qwenvl.grounding.drawing import colour
from paddlemix_qwenvl.grounding.placement import LabelPlacement

SIZES = [(56, 56), (112, 168), (640, 480), (1920, 1080), (1000, 10), (1, 1)]


@pytest.fixture
def system_fonts(monkeypatch):
    """Sets the font files that are found on the system."""

    def use(*paths):
        fonts._path.cache_clear()
        monkeypatch.setattr(fonts, "_files", lambda: [str(path) for path in paths])

    yield use
    fonts._path.cache_clear()


@pytest.fixture(scope="session")
def chinese_font(tmp_path_factory):
    """Pillow's own font with the outline of "A" for a Chinese character."""
    font = TTFont(io.BytesIO(ImageFont.load_default(20).path.getvalue()))
    for table in font["cmap"].tables:
        if table.isUnicode():
            table.cmap[ord("猫")] = table.cmap[ord("A")]
    path = tmp_path_factory.mktemp("fonts") / "Chinese.ttf"
    font.save(path)
    return path


def pixels(image, rgb):
    """Coordinates (left, top, right, bottom) around the pixels of one colour, and how many there are."""
    ys, xs = np.nonzero((np.asarray(image) == rgb).all(axis=2))
    return (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), len(xs)


@pytest.mark.parametrize("size", SIZES)
def test_any_size(size):
    width, height = size
    items = [
        Item("box", "red circle", (0.0, 0.0, float(width), float(height))),
        Item("box", "flat", (width / 2, height / 2, width / 2, height / 2)),
        Item("point", "x" * 5000, (float(width), float(height))),
        Item("polygon", "", (0.0, 0.0, width / 2, height / 3, 0.0, float(height))),
    ]
    image = Image.new("RGB", size, "gray")
    drawn = draw(image, items)
    factor = drawn.width // width
    assert drawn.size == (width * factor, height * factor)
    assert factor == 1 or (max(drawn.size) <= 2048)
    assert min(drawn.size) >= min(336, height, width) and np.asarray(drawn).std() > 0
    assert np.asarray(image).std() == 0  # the picture given is left alone


@pytest.mark.parametrize(("size", "factor"), [((640, 480), 1), ((112, 84), 4), ((56, 56), 6)])
def test_a_box_is_drawn_on_its_own_border(size, factor):
    width, height = size
    box = (width // 4, height // 2, width // 4 * 3, height - 3)
    drawn = draw(Image.new("RGB", size, "gray"), [Item("box", "", tuple(map(float, box)))])
    extent, _ = pixels(drawn, colour(0))
    assert np.abs(np.subtract(extent, np.multiply(box, factor))).max() <= 1
    inside = drawn.crop((box[0] * factor + 20, box[1] * factor + 20, box[2] * factor - 20, box[3] * factor - 20))
    assert (np.asarray(inside) == 128).all()


def test_points_and_polygons_are_drawn_where_they_are():
    point, polygon = Item("point", "", (100.0, 200.0)), Item("polygon", "", (300.0, 300.0, 400.0, 300.0, 350.0, 400.0))
    drawn = draw(Image.new("RGB", (640, 480), "gray"), [point, polygon])
    (left, top, right, bottom), count = pixels(drawn, colour(0))
    assert abs((left + right) / 2 - 100) <= 1 and abs((top + bottom) / 2 - 200) <= 1 and count > 30
    extent, _ = pixels(drawn, colour(1))
    assert np.abs(np.subtract(extent, (300, 300, 400, 400))).max() <= 3


def test_neighbouring_colours_differ():
    nearest = min(np.abs(np.subtract(colour(a), colour(b))).sum() for a, b in itertools.combinations(range(12), 2))
    assert nearest > 60
    assert len({colour(number) for number in range(100)}) == 100


def test_labels_do_not_cover_each_other_or_a_point():
    """Twenty points in a cluster: every mark stays whole, and every label has its own colour somewhere."""
    rng = np.random.default_rng(0)
    items = [
        Item("point", f"item {i}", (float(x), float(y))) for i, (x, y) in enumerate(rng.uniform(150, 450, (20, 2)))
    ]
    drawn = draw(Image.new("RGB", (600, 600), "gray"), items)
    lone = draw(Image.new("RGB", (600, 600), "gray"), [Item("point", "", (300.0, 300.0))])
    _, mark = pixels(lone, colour(0))
    counts = [pixels(drawn, colour(number))[1] for number in range(len(items))]
    assert min(counts) > 3 * mark


def test_text_of_a_label_is_legible():
    """Letters of at least 9 pixels, black or white, whichever is further from the label's own colour."""
    for number in range(8):
        items = [Item("box", "" if i != number else "HHHH", (20.0, 90.0, 80.0, 100.0)) for i in range(number + 1)]
        drawn = np.asarray(draw(Image.new("RGB", (336, 336), "gray"), items)).astype(int)
        label = drawn[60:88, 20:70]
        assert (label == colour(number)).all(axis=2).sum() > 100
        luma = colour(number) @ np.array([0.299, 0.587, 0.114])
        letters = (label == (0 if luma > 140 else 255)).all(axis=2)
        rows = np.nonzero(letters.any(axis=1))[0]
        assert rows.max() - rows.min() + 1 >= 9


def test_a_long_label_is_cut_to_half_the_picture_or_the_width_of_its_box():
    image, long = Image.new("RGB", (600, 400), "gray"), "a long description " * 300
    for box, width in (((10.0, 100.0, 60.0, 200.0), 300), ((10.0, 100.0, 560.0, 200.0), 550)):
        drawn = draw(image, [Item("box", long, box)])
        above = drawn.crop((0, 0, 600, 95))
        (left, _, right, _), _ = pixels(above, colour(0))
        assert width - 30 < right - left <= width + 1


@pytest.mark.parametrize(
    ("shapes", "around", "expected"),
    [
        ([], (100, 100, 200, 200), (100, 80)),  # above, from the left
        ([(90, 60, 170, 95)], (100, 100, 200, 200), (100, 200)),  # below, if something is above
        ([(90, 60, 170, 95), (90, 205, 110, 215)], (100, 100, 200, 200), (140, 200)),  # below, to the right
        ([(0, 0, 400, 90)], (100, 100, 200, 200), (100, 80)),  # a little of a large shape is no matter
        ([(145, 85, 147, 87)], (100, 100, 200, 200), (100, 200)),  # all of a small one is
        ([], (100, 5, 200, 100), (100, 100)),  # below, if it would cover its own box at the upper border
        ([], (380, 100, 390, 200), (340, 80)),  # on the canvas
        ([], (0, 0, 400, 400), (0, 0)),  # inside, if there is no room around
    ],
)
def test_where_a_label_goes(shapes, around, expected):
    assert LabelPlacement((400, 400), [around, *shapes]).place(around, 60, 20) == expected


def test_labels_keep_off_each_other():
    box = (100.0, 100.0, 200.0, 200.0)
    placement = LabelPlacement((400, 400), [box] * 4)
    spots = {placement.place(box, 60, 20) for _ in range(4)}
    assert spots == {(100.0, 80.0), (100.0, 200.0), (200.0, 100.0), (40.0, 100.0)}


def test_no_items_no_change():
    image = Image.effect_noise((400, 400), 50).convert("RGB")
    assert np.array_equal(draw(image, []), image)


def test_a_turned_picture_is_drawn_upright():
    """EXIF orientation 6: stored lying, shown standing; coordinates belong to what is shown."""
    stored = Image.new("RGB", (600, 400), "gray")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", exif=exif)
    drawn = draw(Image.open(buffer), [Item("box", "", (100.0, 400.0, 300.0, 500.0))])
    assert drawn.size == (400, 600)
    assert np.abs(np.subtract(pixels(drawn, colour(0))[0], (100, 400, 300, 500))).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_any_mode(mode):
    assert draw(Image.new(mode, (400, 400)), [Item("box", "a", (10.0, 10.0, 300.0, 300.0))]).mode == "RGB"


def test_a_chinese_label_is_set_in_a_font_found_on_the_system(system_fonts, chinese_font, tmp_path):
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"no font")
    system_fonts(damaged, chinese_font)
    image, box = Image.new("RGB", (400, 400), "gray"), (50.0, 100.0, 300.0, 300.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chinese = draw(image, [Item("box", "猫", box)])
    latin = draw(image, [Item("box", "A", box)])
    assert np.array_equal(chinese, latin)  # as this font draws the character


def test_a_chinese_label_without_a_font_is_a_number_and_a_warning(system_fonts):
    system_fonts()
    image = Image.new("RGB", (400, 400), "gray")
    items = [Item("box", "cat", (50.0, 50.0, 300.0, 90.0)), Item("box", "", (50.0, 200.0, 300.0, 300.0), text="一只猫")]
    with pytest.warns(UserWarning, match="characters '一只猫'.*fonts-noto-cjk.*font=path") as warned:
        drawn = draw(image, items)
    assert warned[0].filename == __file__
    items[1] = Item("box", "#2", items[1].coords)
    assert np.array_equal(drawn, draw(image, items))


def test_a_font_given_by_path(system_fonts, chinese_font, tmp_path):
    system_fonts()
    image, items = Image.new("RGB", (400, 400), "gray"), [Item("box", "猫", (50.0, 100.0, 300.0, 300.0))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.asarray(draw(image, items, font=str(chinese_font))).std() > 0
    with pytest.raises(GroundingError, match=r"cannot be read.*\.ttf"):
        draw(image, items, font=str(tmp_path / "none.ttf"))


def test_characters_that_do_not_print_are_left_out(system_fonts):
    system_fonts()
    image, box = Image.new("RGB", (400, 400), "gray"), (50.0, 100.0, 300.0, 300.0)
    odd = draw(image, [Item("box", "a\0\n\tb\ud800\u202e ", box)])
    assert np.array_equal(odd, draw(image, [Item("box", "a b", box)]))


def test_system_fonts_are_ranked_and_readable(monkeypatch, tmp_path):
    for name in ("Zapf.ttf", "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "readme.txt"):
        (tmp_path / name).touch()
    monkeypatch.setattr(fonts, "_folders", lambda: [tmp_path, tmp_path / "none"])
    fonts._files.cache_clear()
    names = [path.rpartition("/")[2] for path in fonts._files()]
    fonts._files.cache_clear()
    assert names == ["NotoSansCJK-Regular.ttc", "NotoSansCJK-Bold.ttc", "Zapf.ttf"]


def test_nothing_to_draw_on():
    with pytest.raises(GroundingError, match=r"PIL\.Image\.Image to draw on, got str"):
        draw("picture.png", [])


def test_boxes_in_tags_are_drawn_in_the_pixels_of_the_picture():
    answer = "<|object_ref_start|><|object_ref_end|><|box_start|>(250,100),(750,500)<|box_end|>"
    image = Image.new("RGB", (800, 400), "white")
    drawn = draw(image, parse(answer, [image.size], [(784, 392)]))
    assert pixels(drawn, colour(0))[0] == (201, 41, 599, 199)  # 1 pixel of dark frame around it
