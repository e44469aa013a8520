"""Boxes, points and polygons from every form of answer, in the original's pixels."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paddlemix_qwenvl.errors import GroundingError
from paddlemix_qwenvl.grounding import Item, parse
from paddlemix_qwenvl.media import smart_resize

ORIGINAL, RESIZED = (2000, 1000), (1000, 500)


def read(text):
    return [(i.kind, i.label, i.coords) for i in parse(text, [ORIGINAL], [RESIZED])]


def qwen2_vl_tags(text):
    """`text` with Qwen2-VL's tags in place of Qwen-VL's."""
    for short, long in (("ref", "object_ref"), ("box", "box"), ("quad", "quad")):
        text = text.replace(f"<{short}>", f"<|{long}_start|>").replace(f"</{short}>", f"<|{long}_end|>")
    return text


TAGS = (str, qwen2_vl_tags)  # what makes of Qwen-VL's tags those of each family
CAKE = ("box", "cake", (20.0, 40.0, 60.0, 80.0))


@pytest.mark.parametrize(
    "text",
    [
        '```json\n[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "cake"}\n]\n```',
        '{"bbox_2d": [10, 20, 30, 40], "label": "cake"}',
        '```\n{"label": "cake", "bbox_2d": [10, 20, 30, 40]}\n```\nThere is 1 cake.',
        'It is here: [{"bbox_2d": [10, 20, 30, 40,], "label": "cake",},]',
        "[{'bbox_2d': [10, 20, 30, 40], 'label': 'cake'}]",
        "{bbox_2d: [10, 20, 30, 40], label: cake}",
        '{"bbox_2d": [30, 40, 10, 20], "label": "cake"}',
        '{"bbox_2d": [[10, 20], [30, 40]], "label": "cake"}',
        '{"bbox_2d": (10, 20, 30, 40), "label": "cake"}',
        '{"bbox_2d": ["10", "20", "30", "40"], "label": "cake"}',
        '{"bbox_2d": "10 20 30 40", "label": "cake"}',
        '{"bbox_2d": [10.0, 2e1, 30, 40], "label": "cake"}',
        '{"bbox": [10, 20, 30, 40], "name": "cake"}',
        '{"objects": [{"bbox_2d": [10, 20, 30, 40], "label": "cake", "size": [1, 2, 3, 4]}]}',
        '{"cake": {"bbox_2d": [10, 20, 30, 40]}}',
        '{"cake": [10, 20, 30, 40]}',
        '{"cake": [[10, 20, 30, 40]]}',
        '{"bbox_2d": [10, 20, 30, 40] "label": "cake"}'.replace(' "label', '\n "label'),
        '[{"bbox_2d": [10, 20, 30, 40], "label": "cake"}, {"bbox_2d": [50, 60, 70, 8',
        '```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "cake"}\n```\nIt\'s "the" {best} cake.',
        "10,20,30,40 cake",
        "- 10, 20, 30, 40 cake",
    ],
)
def test_every_form_of_a_box(text):
    assert read(text) == [CAKE]


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize(
    "text",
    [
        "<ref>cake</ref><box>(10,40),(30,80)</box>",
        "<ref> cake </ref> <box> (30,80), (10,40) </box><|im_end|><|endoftext|>",
        "It is <ref>cake</ref>:\n<box>( 10 , 40 ) , ( 30 , 80 )</box>, I think.",
        "这是<ref>cake</ref>：<box>（10，40），（30，80）</box>。",
        "<ref>cake</ref>（<box>１０、４０；３０、８０</box>）",
        "<ref>cake</ref>(<box>[10, 40, 30, 80]</box>)",
        "<ref>cake</ref><box>(10.0,40.0),(30.0,80.0)",
        "<ref>cake</ref><box>(10,40),(30,80)<|im_end|>",
        "<ref>cake</ref><box>（10，40），（30，80）is the cake (50, 60)",
        "<ref>cake</ref><box>(10,40),(30,80),(50,60)",
        "<ref>cake<box>(10,40),(30,80)</box>",
        "<ref>cake</ref><box>(10,40),(30,80)<ref>tea</ref><box>(50,60),(70,8",
        "</box><ref>dog</ref><ref>cake</ref><box>(10,40),(30,80)</quad>",
    ],
)
def test_every_form_of_a_box_in_tags(tags, text):
    assert read(tags(text)) == [CAKE]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"point_2d": [10, 20], "label": "pin"}', [("point", "pin", (20.0, 40.0))]),
        (
            '{"point_2d": [[10, 20], [5, 6]], "label": "pin"}',
            [("point", "pin", (20.0, 40.0)), ("point", "pin", (10.0, 12.0))],
        ),
        ('<points x1="10" y1="20" alt="x">pin</points>', [("point", "pin", (20.0, 40.0))]),
        (
            "```xml\n<points x1=\"10\" y1=\"20\" x2='5' y2=6 alt='pin'></points>\n```",
            [("point", "pin", (20.0, 40.0)), ("point", "pin", (10.0, 12.0))],
        ),
        ('<point x="10.5" y="20">pin</point>', [("point", "pin", (21.0, 40.0))]),
        (
            '{"polygon": [[1, 2], [3, 2], [3, 4]], "label": "hill"}',
            [("polygon", "hill", (2.0, 4.0, 6.0, 4.0, 6.0, 8.0))],
        ),
        ('{"bbox_2d": [1, 2, 3, 2, 3, 4, 1, 4]}', [("polygon", "", (2.0, 4.0, 6.0, 4.0, 6.0, 8.0, 2.0, 8.0))]),
        ("[[1, 2, 3, 4], [5, 6, 7, 8]]", [("box", "", (2.0, 4.0, 6.0, 8.0)), ("box", "", (10.0, 12.0, 14.0, 16.0))]),
    ],
)
def test_points_polygons_and_bare_lists(text, expected):
    assert read(text) == expected


SIGN = (20.0, 20.0, 60.0, 20.0, 60.0, 40.0, 20.0, 40.0)


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<box>(500,500)</box>", [("point", "", (1000.0, 500.0))]),
        ("<ref>pin</ref><box>(10, 20)</box>", [("point", "pin", (20.0, 20.0))]),
        ("<ref>sign</ref><quad>(10,20),(30,20),(30,40),(10,40)</quad>", [("polygon", "sign", SIGN)]),
        ("<quad>(10,20),(30,20),(30,40),(10,40)", [("polygon", "", SIGN)]),
        (
            "<ref>pots</ref><box>(1,2),(3,4)</box><box>(500,0),(1000,999)</box><ref>lid</ref><box>(1,2),(3,4)</box>",
            [
                ("box", "pots", (2.0, 2.0, 6.0, 4.0)),
                ("box", "pots", (1000.0, 0.0, 2000.0, 999.0)),
                ("box", "lid", (2.0, 2.0, 6.0, 4.0)),
            ],
        ),
        (
            "<ref>pots</ref><box>(1,2),(3,4),(5,6),(7,8)</box>",
            [("box", "pots", (2.0, 2.0, 6.0, 4.0)), ("box", "pots", (10.0, 6.0, 14.0, 8.0))],
        ),
    ],
)
def test_points_polygons_and_several_boxes_in_tags(tags, text, expected):
    assert read(tags(text)) == expected


@pytest.mark.parametrize("tags", TAGS)
def test_a_ref_names_the_boxes_that_follow_it_and_no_other(tags):
    text = "<ref>dogs</ref><box>(1,2),(3,4)</box>, <box>(5,6),(7,8)</box> and the <box>(1,1),(2,2)</box>"
    assert [label for _, label, _ in read(tags(text))] == ["dogs", "dogs", ""]


@pytest.mark.parametrize("tags", TAGS)
def test_every_cut_of_an_answer_in_tags_keeps_a_beginning_of_its_boxes(tags):
    text = tags(
        "The <ref>cat</ref><box>(10,20),(300,400)</box><box>(5,6),(77,88)</box> and <quad>(1,2),(3,2),(3,4),(1,44)</quad>."
    )
    whole = read(text)
    assert [kind for kind, _, _ in whole] == ["box", "box", "polygon"]
    counts = []
    for end in range(len(text) + 1):
        part = read(text[:end])
        assert part == whole[: len(part)], text[:end]
        counts.append(len(part))
    assert counts == sorted(counts)


def test_tags_that_are_not_closed_leave_the_rest_of_the_answer_to_be_read():
    text = '<ref> is a tag, <|box_start|> too: {"bbox_2d": [10, 20, 30, 40], "label": "cake"}'
    assert read(text) == [CAKE]


def test_qwen2_vl_boxes_are_the_originals():
    """An answer as in section 3.1 of Qwen2-VL's README, by the rule of a grid of 1000 over the picture."""
    answer = "<|object_ref_start|>长颈鹿的眼睛<|object_ref_end|><|box_start|>(176,106),(232,160)<|box_end|>"
    (item,) = parse(answer, [(1333, 999)], [(1316, 980)])
    assert (item.label, item.raw) == ("长颈鹿的眼睛", answer[answer.index("<|box_start|>") :])
    assert item.coords == tuple(
        round(v / 1000 * side, 2) for v, side in zip((176, 106, 232, 160), (1333, 999) * 2, strict=True)
    )


def test_qwen_vl_boxes_are_the_originals():
    """The example of Qwen-VL's README, by its own rule int(x / 1000 * w)."""
    (item,) = parse("<ref>击掌</ref><box>(536,509),(588,602)</box>", [(1333, 999)], [(448, 448)])
    assert item.label == "击掌"
    assert [int(value) for value in item.coords] == [
        int(536 / 1000 * 1333),
        int(509 / 1000 * 999),
        int(588 / 1000 * 1333),
        int(602 / 1000 * 999),
    ]


def test_the_order_of_the_text_is_kept_across_forms():
    text = (
        '{"point_2d": [1, 2]} <ref>a</ref><box>(1,2),(3,4)</box> [1, 2, 3, 4]\n5,6,7,8 b\n<point x="1" y="2">c</point>'
    )
    assert [(kind, label) for kind, label, _ in read(text)] == [
        ("point", ""),
        ("box", "a"),
        ("box", ""),
        ("box", "b"),
        ("point", "c"),
    ]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"label": "the "red" car", "bbox_2d": [1, 2, 3, 4]}', 'the "red" car'),
        ("{'label': 'dog's bone', 'bbox_2d': [1, 2, 3, 4]}", "dog's bone"),
        ('{"label": "caf\\u00e9 \\"x\\" \\ud83d\\udc31", "bbox_2d": [1, 2, 3, 4]}', 'café "x" 🐱'),
        ("{'label': 'a\\'b \"c\"', 'bbox_2d': [1, 2, 3, 4]}", 'a\'b "c"'),
        ('{"label": "C:\\\\", "bbox_2d": [1, 2, 3, 4]}', "C:\\"),
        ('{"label": "纸狐狸{的}影子", "bbox_2d": [1, 2, 3, 4]}', "纸狐狸{的}影子"),
        ('{"label": 7, "bbox_2d": [1, 2, 3, 4]}', "7"),
        ('{"label": "cake\n, "bbox_2d": [1, 2, 3, 4]}', "cake"),
        ('{"bbox_2d": [1, 2, 3, 4], "label": "ca', ""),
    ],
)
def test_labels_as_written(text, label):
    assert [(one[1], one[2]) for one in read(text)] == [(label, (2.0, 4.0, 6.0, 8.0))]


def test_text_content_and_raw():
    text = 'Here:\n```json\n[\n    {\n        "bbox_2d": [125, 169, 754, 208], "text_content": "UNIHAKKA SDN BHD",\n    },\n]\n```'
    (item,) = parse(text, [(870, 1398)], [(868, 1400)])
    assert item == Item("box", "", (125.29, 168.76, 755.74, 207.7), 0, item.raw, "UNIHAKKA SDN BHD")
    assert item.raw == '{\n        "bbox_2d": [125, 169, 754, 208], "text_content": "UNIHAKKA SDN BHD",\n    }'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "There is no cake.",
        "```json\n[]\n```",
        '{"bbox_2d": [1, 2, 3]}',
        '{"bbox_2d": [1, 2, 3, 4, 5]}',
        '{"bbox_2d": [1, 2, 3, 40',
        '{"bbox_2d": [1, 2, 3, NaN]}',
        '{"bbox_2d": [1, 2, 3, 1e999]}',
        '{"bbox_2d": [true, false, true, true]}',
        '{"bbox_2d": null}',
        "<box>(1,2),(3,</box>",
        "<box>(1,2),(3,4",
        "<box>(1,2)",
        "<|box_start|>1,2,3,4",
        "<|quad_start|>(1,2),(3,4),(5,6)",
        "<|object_ref_start|>cake<|object_ref_end|>",
        "as shown in [1, 2] and [3]",
        '<points x1="1">pin</points>',
    ],
)
def test_nothing_that_is_not_whole(text):
    assert read(text) == []


def test_every_cut_of_an_answer_keeps_a_beginning_of_its_boxes():
    text = (
        "```json\n[\n"
        + ",\n".join(f'{{"bbox_2d": [{i}, {i + 1}, {i + 20}, {i + 30}], "label": "n{i}"}}' for i in range(5))
        + "\n]\n```"
    )
    whole = [one[2] for one in read(text)]
    assert len(whole) == 5
    counts = []
    for end in range(len(text)):
        part = [one[2] for one in read(text[:end])]
        assert part == whole[: len(part)]
        counts.append(len(part))
    assert counts == sorted(counts)


def test_boxes_are_clipped_to_the_picture():
    assert read('{"bbox_2d": [-5, 490, 1010, 600]}') == [("box", "", (0.0, 980.0, 2000.0, 1000.0))]
    assert read("<box>(-3,0),(1200,999)</box>") == [("box", "", (0.0, 0.0, 2000.0, 999.0))]


BOX = '{"bbox_2d": [1, 2, 3, 4]}'


@pytest.mark.parametrize(
    ("originals", "resized"),
    [
        ([], []),
        ([(1, 1)], []),
        ([(1, 1)], [(1, 0)]),
        ([(1, 1)], [(1, 1, 3)]),
        ([1], [(1, 1)]),
        ([("a", "b")], [(1, 1)]),
    ],
)
def test_sizes_that_do_not_fit(originals, resized):
    with pytest.raises(GroundingError, match="expected"):
        parse(BOX, originals, resized)


def test_text_that_is_none():
    with pytest.raises(GroundingError, match="one answer as a str, got list"):
        parse([BOX], [(1, 1)], [(1, 1)])


pixels = st.integers(1, 6000)


@st.composite
def pictures(draw):
    """(original, resized) as the processor makes them for any picture and any pixel limits."""
    width, height = draw(pixels), draw(pixels)
    if max(width, height) > 190 * min(width, height):
        width = height
    least = draw(st.integers(4 * 28 * 28, 4096 * 28 * 28))
    most = draw(st.integers(least, 16384 * 28 * 28))
    resized_height, resized_width = smart_resize(height, width, min_pixels=least, max_pixels=most)
    return (width, height), (resized_width, resized_height)


@settings(deadline=None, max_examples=400)
@given(pictures(), st.data())
def test_a_box_sent_through_the_resize_comes_back(picture, data):
    """Exactly, if the model gives fractions; within half a pixel of the resized picture if it rounds to whole ones."""
    (width, height), (resized_width, resized_height) = picture
    left, right = sorted((data.draw(st.integers(0, width)), data.draw(st.integers(0, width))))
    top, bottom = sorted((data.draw(st.integers(0, height)), data.draw(st.integers(0, height))))
    x, y = resized_width / width, resized_height / height
    box = [left * x, top * y, right * x, bottom * y]
    exact, rounded = parse(
        f"[{box}, {[round(value) for value in box]}]", [(width, height)], [(resized_width, resized_height)]
    )
    original = (left, top, right, bottom)
    assert np.abs(np.subtract(exact.coords, original)).max() <= 0.01
    assert (np.abs(np.subtract(rounded.coords, original)) <= 0.5 / np.array([x, y, x, y]) + 0.01).all()
    if min(x, y) >= 0.5:  # not shrunk below half: whole pixels come back within one pixel
        assert np.abs(np.subtract(rounded.coords, original)).max() <= 1.0


@settings(deadline=None, max_examples=300)
@given(pictures(), st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
def test_boxes_lie_in_the_picture_and_are_ordered(picture, numbers):
    (width, height), resized = picture
    (item,) = parse(str(numbers), [(width, height)], [resized])
    left, top, right, bottom = item.coords
    assert 0 <= left <= right <= width and 0 <= top <= bottom <= height


def test_a_rectangle_really_drawn_and_resized_is_found_where_it_was():
    """The convention itself: Pillow's resize takes a drawn rectangle to where our mapping takes it back from."""
    random.seed(0)
    for _ in range(30):
        width, height = random.randint(60, 500), random.randint(60, 500)
        left, top = random.randint(0, width // 2), random.randint(0, height // 2)
        right, bottom = random.randint(left + 10, width), random.randint(top + 10, height)
        image = Image.new("L", (width, height))
        image.paste(255, (left, top, right, bottom))
        resized_height, resized_width = smart_resize(height, width)
        seen = np.asarray(image.resize((resized_width, resized_height), Image.Resampling.BICUBIC)) > 127
        ys, xs = np.nonzero(seen)
        answer = f'{{"bbox_2d": [{xs.min()}, {ys.min()}, {xs.max() + 1}, {ys.max() + 1}]}}'
        (item,) = parse(answer, [(width, height)], [(resized_width, resized_height)])
        assert np.abs(np.subtract(item.coords, (left, top, right, bottom))).max() <= 1.0
