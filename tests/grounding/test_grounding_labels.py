"""Labels are kept whole, whatever is in them and whatever is wrong around them."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paddlemix_qwenvl.grounding import Item, draw, parse, parse_actions, parse_document, parse_times
from paddlemix_qwenvl.grounding.loose_strings import unescape

SIZE = [(1000, 1000)]
FIRST, SECOND = (10.0, 20.0, 30.0, 40.0), (1.0, 2.0, 3.0, 4.0)

# As they stand in the answer, and what they say if that is something else.
LABELS = [
    ("line one\nline two\n\tand three",),
    (r"line one\nline two\r\n\tand three", "line one\nline two\r\n\tand three"),
    ('the "red" car',),
    (r"the \"red\" car", 'the "red" car'),
    ('""cat""',),
    ('"x" is it',),
    ('he said "hi", then left',),
    ('he said "hi" then: bye',),
    ('the "word"\nin red',),
    ("the dogs' bone's 'end', and",),
    ('the sign ("STOP")',),
    ('array ["a"] or set {"a"} here',),
    ("[1, 2, 3, 4]",),
    ("}",),
    ("a ```json b",),
    ("10, 20, 30, 40",),
    ("",),
    ("他说“好”，走了",),
    ("“好”",),
    ("标题“甲”：内容",),
    ("［重要］：注意，｛甲｝（乙）、１２",),
    (r"caf\u00e9 \ud83d\udc31 \/", "café 🐱 /"),
    (r"x\ud83dy", "x\ufffdy"),
    ("x\ud83d\udc31y\ud83dz", "x🐱y\ufffdz"),
    (r"$\frac{a}{b}$",),
    (r"$\\frac{a}{b}$", r"$\frac{a}{b}$"),
    (r"\(\beta \times \nu \neq \theta\) and \[\rho \right)\]",),
    (r"3 \times 4",),
    ("\\alpha\\nin line two", "\\alpha\nin line two"),
    (r"\begin{matrix} a \\ b \end{matrix} \underline{x}",),
    (r"C:\\", "C:\\"),
]
WHOLE = [
    '{"bbox_2d": [10, 20, 30, 40], "label": "%s"}',
    '```json\n[\n\t{"label": "%s", "bbox_2d": [10, 20, 30, 40]},\n]\n```',
    '[{"bbox_2d": [10, 20, 30, 40, "label": "%s"}]',
    '{"bbox_2d"：[10，20，30，40]，"label"："%s"}',
    "{“bbox_2d”：［10，20，30，40］，“label”：“%s”}",
    '[{"bbox_2d": [10, 20, 30, 40], "label": "%s"',
    '{"bbox_2d": [10, 20, 30, 40], "label": "%s"} is here.',
    '{"text_content": "%s", "bbox_2d": [10, 20, 30, 40,]}',
    "<ref>%s</ref><box>(10,20),(30,40)</box>",
    "<|object_ref_start|>%s<|object_ref_end|><|box_start|>(10,20),(30,40)<|box_end|>",
]
BEFORE_ANOTHER = [
    '[{"bbox_2d": [10, 20, 30, 40], "label": "%s"}, {"bbox_2d": [1, 2, 3, 4], "label": "b"},]',
    '[{"label": "%s", "bbox_2d": [10, 20, 30, 40]},\n{"label": "b", "bbox_2d": [1, 2, 3, 4]}',
    '{"label": "%s", bbox_2d: [10, 20, 30, 40]} and {"label": "b", bbox_2d: [1, 2, 3, 4]}',
    '[{"bbox_2d": [10, 20, 30, 40], "label": "%s", {"bbox_2d": [1, 2, 3, 4], "label": "b"}]',
]


def read(text):
    return [(item.label or item.text, item.coords) for item in parse(text, SIZE, SIZE)]


@pytest.mark.parametrize("label", LABELS, ids=ascii)
def test_labels_in_every_form(label):
    written, said = label[0], label[-1]
    for form in WHOLE:
        if "<" in form:  # tags have no escapes
            assert read(form % written)[0][0] == unescape_nothing(written)
        else:
            assert read(form % written) == [(said, FIRST)], form
    for form in BEFORE_ANOTHER:
        assert read(form % written) == [(said, FIRST), ("b", SECOND)], form


def unescape_nothing(written):
    return written.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.text(max_size=12) | st.text("\"'\\{}[]():,\n：，“”｛a ", max_size=12), min_size=1, max_size=3),
    st.booleans(),
)
def test_any_label_in_json_comes_back(labels, is_ascii):
    """But for escapes that are LaTeX's rather than JSON's."""
    labels = [re.sub("[\b\f\r\n\t](?=[A-Za-z])", " ", label) for label in labels]
    labels = [label.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for label in labels]
    boxes = [{"bbox_2d": [1, 2, 3, 4], "label": label} for label in labels]
    whole = json.dumps(boxes, ensure_ascii=is_ascii)
    for text in (whole, whole[:-1], whole + "."):
        assert read(text) == [(label, SECOND) for label in labels]


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": 10, 20, 30, 40], "label": "a"}]',
        '{"bbox_2d": 10, 20, 30, 40, "label": "a"}',
        '{"label": "a", "bbox_2d": 10 20 30 40}',
        '{"bbox_2d": [10, 20, 30, 40}, "label": "a"}',
        '[{"bbox_2d": [10, 20, 30, 40]], "label": "a"}]',
        '[{"bbox_2d": [10, 20, 30, 40]}, "label": "a"}]',
        '{"bbox_2d": [10, 20, 30, 40), "label": "a"}',
        '{"bbox_2d": (10, 20), (30, 40), "label": "a"}',
        '{"bbox_2d": [[10, 20], [30, 40], "label": "a"}',
        '["bbox_2d": [10, 20, 30, 40], "label": "a"]',
        '[{"label": "a", "bbox_2d": [10, 20, 30, 40\n```',
        '[{"label": "a", "bbox_2d": [10, 20, 30, 40\n',
        '[{"label": "a", "bbox_2d": [10, 20, 30, 40}',
        '[{"bbox_2d": ["10", "20", "30", "40", "label": "a"}]',
        '{"label": "a", "bbox_2d": "[10, 20, 30, 40"}',
        "{bbox_2d: [10, 20, 30, 40, label: a}",
        '{bbox_2d": [10, 20, 30, 40], label": "a"}',
        '{"bbox_2d: [10, 20, 30, 40], "label: "a"}',
        '{""bbox_2d"": [10, 20, 30, 40], ""label"": "a"}',
        '{\\"bbox_2d\\": [10, 20, 30, 40], \\"label\\": \\"a\\"}',
        "｛‘bbox_2d’：［１０、２０、３０、４０］；‘label’：‘a’｝",
        '{“label": "a”, "bbox_2d": （10，20），（30，40）}',
        '{"label": "a",, "bbox_2d": [10, 20, 30, 40]}',
        '"bbox_2d": [10, 20, 30, 40], "label": "a"}',
        '```json\n"bbox_2d": [10, 20, 30, 40], "label": "a"',
        "10，20，30，40 a",
        "10, 20, 30, 40] a",
        "<ref>a</ref><box>（10，20），（30，40）</box>",
        "<ref>a</ref><box>(10,20),(30,40</box>",
    ],
)
def test_four_numbers_are_a_box_whatever_bracket_is_missing(text):
    assert read(text) == [("a", FIRST)]


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [10, 20, 30, 40, "label": "a"}, {"bbox_2d": [1, 2, 3, 4], "label": "b"}]',
        '[{"bbox_2d": [10, 20, 30, 40], "label": "a", "bbox_2d": [1, 2, 3, 4], "label": "b"}]',
        '[{"bbox_2d": [10, 20, 30, 40], "label": "a"}, "bbox_2d": [1, 2, 3, 4], "label": "b"}]',
        '[{"bbox_2d": [10, 20, 30, 40], "label": "a}, {"bbox_2d": [1, 2, 3, 4], "label": "b"}]',
        '[{"bbox_2d": [10, 20, 30, 40], "label": a"}, {"bbox_2d": [1, 2, 3, 4], "label": "b"}]',
        '[{"bbox_2d": [10, 20, 30, 40], "label": "a"\n{"bbox_2d": [1, 2, 3, 4], "label": "b"}]',
        '[{"label": "a\n, "bbox_2d": [10, 20, 30, 40]}, {"label": "b", "bbox_2d": [1, 2, 3, 4]}]',
    ],
)
def test_what_is_wrong_in_one_object_does_not_touch_the_next(text):
    assert read(text) == [("a", FIRST), ("b", SECOND)]


@pytest.mark.parametrize(
    "text",
    [
        '```json\n[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "cat"},\n\t{"bbox_2d": [1, 2, 3, 4], "label": "a dog"}\n]\n```',
        '[{"label": "cat", "bbox_2d": [10, 20, 30, 40]}, {"label": "a dog", "bbox_2d": [1, 2, 3, 4]}]',
        "[{'bbox_2d': [10, 20, 30, 40], 'label': 'cat'}, {'bbox_2d': [1, 2, 3, 4], 'label': 'a dog'}]",
        '{"bbox_2d"：[10， 20， 30， 40]，"label"："cat"}\n{"bbox_2d"：[1， 2， 3， 4]，"label"："a dog"}',
        "{“bbox_2d”：［10， 20， 30， 40］，“label”：“cat”}\n{“bbox_2d”：［1， 2， 3， 4］，“label”：“a dog”}",
    ],
)
def test_any_one_sign_may_be_missing_or_there_twice(text):
    for at, sign in enumerate(text):
        if sign in "[]{},:\"'：，［］“”":
            for wrong in (text[:at] + text[at + 1 :], text[:at] + sign + text[at:]):
                found = [(label.strip("\"'“”"), coords) for label, coords in read(wrong)]
                assert found == [("cat", FIRST), ("a dog", SECOND)], wrong


@pytest.mark.parametrize("text", ["[10, 20, 30, 40", '{"bbox_2d": [10, 20, 30, 40, ', '{"bbox_2d": 10, 20, 30, 4'])
def test_a_number_that_the_end_may_have_cut_is_none(text):
    assert read(text) == []


def test_lists_without_their_brackets():
    assert read("[[10, 20, 30, 40, [1, 2, 3, 4]]") == [("", FIRST), ("", SECOND)]
    assert read("[10, 20, 30, 40 is the box, not [1, 2]") == [("", FIRST)]


@pytest.mark.parametrize(
    "text",
    [
        '{"point_2d": [10, 20, "label": "a"}',
        '{"point_2d": 10, 20], "label": "a"}',
        '{"point_2d"：［10，20］，"label"："a"}',
        "<point x=“10” y=“20”>a</point>",
        '<points x1="10" y1="20" alt="a"></points>',
    ],
)
def test_points_too(text):
    assert read(text) == [("a", (10.0, 20.0))]


def test_labels_of_points_hold_signs_and_line_ends():
    assert read('<points x1="10" y1="20">a<b "c"\nd</points>')[0][0] == 'a<b "c"\nd'
    assert read('<points x1="10" y1="20" alt="the "red" car"></points>')[0][0] == 'the "red" car'


def test_escapes_of_json():
    assert unescape(r"\"\\\/\b\f\n\r\t\u732b") == '"\\/\b\f\n\r\t猫'


def test_what_cannot_be_encoded_is_repaired_in_every_reader():
    text = '{"label": "a\udc31", "bbox_2d": [1, 2, 3, 4]}'
    (item,) = parse(text, SIZE, SIZE)
    assert (item.label, item.raw) == ("a\ufffd", text.replace("\udc31", "\ufffd"))
    (block,) = parse_document("<p>a\udc31</p>", *SIZE * 2)
    assert block.text == "a\ufffd"
    call = '{"name": "computer_use", "arguments": {"action": "type", "text": "\\ud83d\\udc31\\udc31"}}\udc31'
    (action,) = parse_actions(f"<tool_call>{call}</tool_call>", *SIZE * 2)
    assert (action.text, action.arguments["text"]) == ("🐱\ufffd",) * 2
    (segment,) = parse_times("00:01 a\udc31")
    assert segment.text == "a\ufffd"


def test_a_label_that_cannot_be_encoded_is_drawn_without_it():
    image, box = Image.new("RGB", (400, 400)), (50.0, 100.0, 300.0, 300.0)
    drawn = draw(image, [Item("box", "a\udc31b", box)])
    assert drawn.tobytes() == draw(image, [Item("box", "ab", box)]).tobytes()
