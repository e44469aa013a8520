"""100 000 mutated answers: no exception, no hang, and everything that comes back makes sense."""

import json
import random
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from paddlemix_qwenvl.grounding import loose_json, parse, parse_actions, parse_document, parse_times, to_markdown
from paddlemix_qwenvl.text import repair

ORIGINALS, RESIZED = [(640, 480), (33, 2000)], [(644, 476), (28, 1988)]
ANSWERS = [
    '```json\n[\n\t{"bbox_2d": [139, 768, 315, 954], "label": "cake"},\n\t{"bbox_2d": [366, 679, 536, 849], "label": "猫"}\n]\n```',
    '[{"bbox_2d": [125, 169, 754, 208], "text_content": "UNIHAKKA \\"SDN\\" BHD",},]',
    "Picture 1: {'point_2d': [10, 20.5], 'label': 'dog's'} Picture 2: {\"polygon\": [[1, 2], [3, 4], [5, 6]]}",
    "<ref>击掌</ref><box>(536,509),(588,602)</box><quad>(1,2),(3,4),(5,6),(7,8)</quad><|endoftext|>",
    '<points x1="10" y1="20" x2="30" y2="40" alt="pin">rolling pin</points>\n43,378,996,957 cakes\n',
    '```html\n<html><body>\n<h2 data-bbox="310 94 658 132">Title</h2></body></html>\n```',
    '<div class="formula" data-bbox="1 2 3 4"><div>$$a<b$$</div></div><ol><li>x</li></ol>',
    '<table data-bbox="1 2 30 40"><tr><td colspan="2">a</td><td rowspan=3>b|</td></tr><tr><td>c</td></tr></table>',
    '<tool_call>\n{"name": "mobile_use", "arguments": {"action": "swipe", "coordinate": [9,6], "coordinate2": [1,2]}}</tool_call>',
    '<tool_call>{"name": "computer_use", "arguments": "{\\"action\\": \\"key\\", \\"keys\\": [\\"ctrl\\", \\"c\\"]}"}</tool_call>',
    '```json\n[{"start_time": "00:23.90", "end_time": "01:35.60", "description": "They cut it."}]\n```',
    "The given query happens in 64.0 - 72.0 seconds.\n**00:23.90 - 01:35.60:** It is cut, 1分20秒.\n",
]
PIECES = [
    *"{}[]()\"':,\\<>/|#-.\n\0 0",
    "```",
    "```json",
    "1e999",
    "9" * 400,
    "NaN",
    "null",
    "true",
    "猫",
    "\ud800",
    "🐱",
    "\u202e",
]
PIECES += [
    "<box>",
    "</box>",
    "<p data-bbox='",
    "<table>",
    "</tr>",
    "<td colspan=9999 rowspan=9999>",
    "&lt;",
    "<!--",
    "]]>",
    "<?",
]
PIECES += [
    "Picture 2",
    "bbox_2d",
    "arguments",
    "00:",
    " - ",
    " s",
    "image_index",
    "\\u12",
    "<|box_start|>",
    "\r\n",
    "\u3000",
    "٣",
]
PIECES += [*"：，［］｛｝“”‘’、１", "\\frac", '\\"', '""', "\udc31", "\\ud83d", ', "label": "']


@contextmanager
def alarm(seconds, text):
    """Fails on one answer that takes so long that it must be a hang."""

    def ring(*_):
        raise TimeoutError(f"no end after {seconds} s with {text[:500]!r}")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def mutated(rng, text):
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.randint(0, 15))
        change = rng.random()
        if change < 0.25:
            text = text[:start] + text[end:]
        elif change < 0.55:
            text = text[:start] + rng.choice(PIECES) + text[start:]
        elif change < 0.7:
            text = text[:start] + text[start:end] * rng.randint(2, 5) + text[end:]
        elif change < 0.8:
            text = text[:start]
        elif change < 0.9:
            other = rng.choice(ANSWERS)
            text = text[:start] + other[rng.randrange(len(other)) :] + text[end:]
        else:
            text = text[:start] + chr(rng.choice((rng.randrange(128), rng.randrange(0x10FFFF)))) + text[end:]
    return text


def check_items(text):
    last, items = 0, parse(text, ORIGINALS, RESIZED)
    text = repair(text)
    "".join(piece for item in items for piece in (item.label, item.text, item.raw)).encode()
    for item in items:
        width, height = ORIGINALS[item.image]
        xs, ys = item.coords[0::2], item.coords[1::2]
        assert all(0 <= x <= width for x in xs) and all(0 <= y <= height for y in ys)
        assert item.raw in text[last:]
        last = text.index(item.raw, last)
        if item.kind == "box":
            assert len(item.coords) == 4 and xs[0] <= xs[1] and ys[0] <= ys[1]
        else:
            assert len(xs) == len(ys) == 1 if item.kind == "point" else len(xs) == len(ys) >= 3


def check_document(text):
    blocks = parse_document(text, ORIGINALS[0], RESIZED[0])
    for order, block in enumerate(blocks):
        left, top, right, bottom = block.box or (0, 0, 0, 0)
        assert block.order == order and 0 <= left <= right <= 640 and 0 <= top <= bottom <= 480
        assert len({len(row) for row in block.rows}) <= 1
    assert isinstance(to_markdown(blocks), str)


def check_actions(text):
    for action in parse_actions(text, ORIGINALS[0], RESIZED[0]):
        json.dumps(action.arguments, ensure_ascii=False).encode()
        for point in (action.coordinate, action.coordinate2):
            assert point is None or (0 <= point[0] < 640 and 0 <= point[1] < 480)
        assert action.raw in repair(text)


def check_times(text):
    assert all(10 <= segment.start <= segment.end <= 60 for segment in parse_times(text, 10, 60))


CHECKS = (check_document, check_actions, check_times)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_answers(seed):
    """25 000 answers a seed, each through `parse` and, in turn, one of the other readers."""
    rng = random.Random(seed)
    for number in range(25_000):
        text = mutated(rng, rng.choice(ANSWERS))
        with alarm(60, text):
            try:
                check_items(text)
                CHECKS[number % 3](text)
            except Exception as error:
                raise AssertionError(f"seed {seed}, answer {number}: {text!r}") from error


UNITS = [
    "[",
    "{",
    '{"a": ',
    '"',
    "'\\",
    '{"a} ',
    "[[1,2,3,4],",
    "<box>",
    "<ref>x",
    "<points x1='1' y1='1' ",
    "1,2,3,4,",
    "9",
    " ",
]
UNITS += [
    "\n",
    "```",
    "Picture 1 ",
    "00:01 ",
    "1 s ",
    "1 to ",
    "<tool_call>",
    "<p data-bbox='1 2 3 4'>",
    "<table><tr><td rowspan=999>",
]
UNITS += ['", ', '"}', '"} x', "，［", "“", '\\"', '"\n', '": [1, 2, ', '{"a": 1} ', '["a": ', '"a": 1, ', "'a', "]
UNITS += ["<div>", "<b>", "<", "$$ ", "{}", "\\", '"" ', "1 m "]


@pytest.mark.parametrize("unit", UNITS)
def test_a_model_that_repeats_itself(unit):
    """100 000 characters of one thing over and over, in every reader, within the time that only a hang takes."""
    for start in ("", '{"bbox_2d": [1, "'):
        text = start + unit * (100_000 // len(unit))
        with alarm(120, text):
            check_items(text)
            for check in CHECKS:
                check(text)


@pytest.mark.parametrize(
    "start", ['{"a": ', '{"a": 1', '{"a": [1, 2', '{"a": "b"', '{"a": "b",', '{"a": "b", {', '{"a', '"a": "']
)
@pytest.mark.parametrize("unit", [" ", "\n", "1", "a", ",", " 1", ' "'])
def test_the_same_after_a_beginning(start, unit):
    with alarm(20, start + unit):
        check_items(start + unit * (50_000 // len(unit)))


def test_valid_json_reads_as_the_json_module_reads_it():
    rng = random.Random(0)

    def value(depth):
        kind = rng.randrange(7 if depth else 5)
        if kind < 5:
            return (
                rng.randint(-999, 999),
                round(rng.uniform(-9, 9), 3),
                rng.choice((True, False, None)),
                rng.choice(("", "a b", 'q"\\\n猫')),
                "x",
            )[kind]
        if kind == 5:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        return {f"key {i}": value(depth - 1) for i in range(rng.randrange(4))}

    for _ in range(2000):
        whole = [value(3)]
        text = json.dumps(whole, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 2)))
        (read,) = loose_json.read(f"Here: {text} there.")
        assert read == whole and read.whole and read.span == (6, 6 + len(text))


def test_grounding_knows_no_model():
    code = "import sys, paddlemix_qwenvl.grounding; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"lxml", "PIL", "paddlemix_qwenvl"} <= loaded
    assert not loaded & {"paddle", "paddlenlp", "paddlemix", "torch", "transformers"}
