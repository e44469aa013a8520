"""What the page makes of answers that the demo cannot give: read while they come, in every family's form."""

import json

import pytest
from page_driver import INPUTS, SHAPES, ask, scripted

from paddlemix_qwenvl.grounding import parse, parse_document

SIZE, GRID = (252, 196), (504, 392)
BOX = '{"bbox_2d": [27, 169, 83, 227], "label": "blue star"}'
ANSWERS = [
    f"```json\n[\n\t{BOX},\n\t{BOX}\n]\n```",
    '[{"point_2d": [12, 30], "label": "a \\"q\\" b"}, {"point_2d": [[1, 2], [3, 4]], "label": "two"}]',
    'Here: {"bbox_2d": [1, 2, 30, 40], "label": "x", "text_content": "hi, [1, 2]"} and so on.',
    "There is <ref>the dog</ref><box>(221,423),(569,886)</box> and <ref>two</ref><box>(1,2),(3,4)</box><box>(10,20),(30,40)</box>.",
    "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(10,20),(300,400)<|box_end|>",
    "<ref>p</ref><quad>(1,2),(30,4),(30,40),(1,40)</quad>",
    '{"cats": [[1, 2, 30, 40], [5, 6, 70, 80]], "dog": {"bbox": [1, 2, 33, 44]}}',
    '[{"label": "polygon", "polygon": [[1, 2], [30, 4], [30, 40]]}]',
    'No boxes: [1, 2], {"a": 3}',
    '{"bbox_2d": [50, 60, 10, 20], "label": "turned"}',
    '[{"bbox_2d": [[1, 2], [30, 40]], "label": "nested"}]',
    '[{"box_2d": [1, 2, 30, 40], "name": "n\\u4e2d"}',
    '{"bbox_2d": [-5, 490, 1010, 600], "label": "outside"}',
]


def located(page, text: str) -> list:
    reading = "async ([text, pictures]) => (await import('/page/located.js')).locate(text, pictures, 0)"
    items = page.evaluate(reading, [text, [{"size": [*SIZE], "grid": [*GRID]}]])
    return [(item["kind"], item["label"], item["text"], tuple(item["coords"])) for item in items]


def test_the_page_reads_what_the_package_reads(open_page):
    page = open_page()
    for text in ANSWERS:
        wanted = [(item.kind, item.label, item.text, item.coords) for item in parse(text, [SIZE], [GRID])]
        assert located(page, text) == wanted


def test_nothing_is_drawn_that_does_not_stay(open_page):
    page = open_page()
    for text in ANSWERS:
        whole = [(kind, coords) for kind, _, _, coords in located(page, text) if kind != "polygon"]
        for end in range(len(text)):
            part = [(kind, coords) for kind, _, _, coords in located(page, text[:end]) if kind != "polygon"]
            assert set(part) <= set(whole), text[:end]


def test_the_servers_reading_has_the_last_word(open_page):
    page = open_page()
    truth = [{"kind": "box", "label": "sun", "coords": [10.0, 20.0, 100.0, 110.0], "image": 0}]
    scripted(page, BOX, [(SIZE, GRID)], truth)
    ask(page, "Where?", SHAPES)
    assert page.locator(".row .name").all_inner_texts() == ["sun"]
    assert page.locator(".row .places").inner_text() == "10  20  100  110"


def test_what_is_written_in_a_picture_is_shown(open_page):
    page = open_page()
    found = [{"kind": "box", "label": "", "coords": [10.0, 20.0, 100.0, 110.0], "image": 0, "text": "OPEN"}]
    scripted(page, '[{"bbox_2d": [20, 40, 200, 220], "text_content": "OPEN"}]', [(SIZE, GRID)], found)
    ask(page, "Spot all texts.", SHAPES)
    assert page.locator(".row .name").inner_text() == page.locator(".tag").inner_text() == "OPEN"


def test_names_in_the_text_light_their_boxes(open_page):
    page = open_page()
    scripted(page, ANSWERS[3], [(SIZE, GRID)])
    ask(page, "Where?", SHAPES)
    assert page.locator(".prose").inner_text() == "There is the dog and two."
    page.hover(".mention >> nth=1")
    assert page.locator(".stage g.lit").evaluate_all("all => all.map(one => one.dataset.entry).sort()") == ["1", "2"]


def test_boxes_lie_on_the_picture_they_are_in(open_page):
    page = open_page()
    items = [{"kind": "point", "label": str(i), "coords": [5.0, 5.0], "image": i} for i in (1, 0, 1)]
    scripted(page, "Here.", [(SIZE, GRID)] * 2, items)
    ask(page, "Where?", SHAPES, INPUTS / "one.png")
    assert page.locator(".figure img").evaluate_all("all => all.map(one => one.alt)") == ["shapes.png", "one.png"]
    assert page.locator(".figure >> nth=0").locator(".row").count() == 1
    assert page.locator(".figure >> nth=1").locator(".row").count() == 2


def test_boxes_that_arrive_lie_on_the_picture_that_is_named(open_page):
    page = open_page()
    for text in NAMED:
        wanted = [(item.image, item.label, item.coords) for item in parse(text, SIZES, [GRID] * 2, first=1)]
        assert in_which_picture(page, text) == wanted, text


def test_nothing_is_drawn_on_the_wrong_picture_first(open_page):
    page = open_page()
    for text in NAMED:
        whole = {(image, coords) for image, _, coords in in_which_picture(page, text)}
        for end in range(len(text)):
            assert {(image, coords) for image, _, coords in in_which_picture(page, text[:end])} <= whole, text[:end]


SIZES = [SIZE, (504, 392)]


def box_in(picture) -> str:
    return f'{BOX[:-1]}, "image": {json.dumps(picture)}}}'


NAMED = [
    f"Picture 2: {BOX} Picture 1: {BOX} Picture 7: {BOX}",
    f"[{box_in(2)}, {box_in(1)}, {BOX}, {box_in(7)}]",
    f'[{box_in(1)}, {{"image_index": "2", {BOX[1:]}, {box_in("Picture 1")}]',
    f"In the first image {BOX}, and 第二张图 {BOX}",
    f"The second photo: {box_in(1)} {BOX}",
    f'{{"Picture 1": [{BOX}], "Picture 2": [{BOX}, {box_in(1)}], "others": [{BOX}]}}',
    f"<ref>image 1</ref><box>(1,2),(3,4)</box> img_2: <box>(1,2),(3,4)</box> {BOX}",
    '{"bbox_2d": [27, 169, 83, 227], "label": "image 1"} and {"bbox_2d": [1, 2, 3, 4]}',
    '{"image": 1, "cats": [[1, 2, 30, 40], [5, 6, 70, 80]]}',
]


def in_which_picture(page, text: str) -> list:
    reading = "async ([text, pictures]) => (await import('/page/located.js')).locate(text, pictures, 1)"
    items = page.evaluate(reading, [text, [{"size": [*size], "grid": [*GRID]} for size in SIZES]])
    return [(item["image"], item["label"], tuple(item["coords"])) for item in items]


@pytest.mark.parametrize(
    "text", ["<div>" * 20000 + "x", ">" * 20000 + "x", "**a " * 20000, "[" * 20000, '{"a":' * 20000]
)
def test_an_answer_nested_beyond_measure_is_still_shown(open_page, text):
    page = open_page()
    scripted(page, f"<html><p data-bbox='1 2 3 4'>{text}" if text[1] == "d" else text, [(SIZE, GRID)])
    ask(page, "Go on.", SHAPES)
    assert len(page.locator(".answer").inner_text()) > 0
    assert page.get_by_role("button", name="Answer again").is_visible()


def test_a_page_stands_beside_its_picture_as_markdown(open_page):
    page = open_page()
    picture = INPUTS / "page.png"
    text = (INPUTS / "page.html").read_text()
    size, grid = (800, 1040), (560, 700)
    scripted(page, text, [(size, grid)], [])
    ask(page, "Convert this page to QwenVL HTML.", picture)
    blocks = parse_document(text, size, grid)
    assert page.locator(".rows > .block").count() == page.locator(".stage g").count() == len(blocks) == 8
    assert page.locator(".block h3").inner_text() == "How long is a day?"
    assert page.locator(".block td").all_inner_texts() == [
        "Earth",
        "1",
        "23.9",
        "Mars",
        "2",
        "24.6",
        "Jupiter",
        "95",
        "9.9",
    ]
    reading = "async ([text, picture]) => (await import('/page/document.js')).readDocument(text, picture)"
    read = page.evaluate(reading, [text, {"size": [*size], "grid": [*grid]}])
    assert [block["coords"] for block in read] == [pytest.approx(list(block.box), abs=0.01) for block in blocks]
    page.hover(".block td >> nth=0")
    assert page.locator(".stage g.lit").get_attribute("data-entry") == "2"


HOSTILE = """<img src=x onerror="window.hit=1"><script>window.hit=1</script>
[click](javascript:window.hit=1) [data](data:text/html,<script>1</script>) <a href="javascript:hit=1" onclick="hit=1">a</a>
![x](https://example.com/x.png) <svg onload=hit=1> <iframe src="https://example.com"></iframe> <style>*{display:none}</style>

| a | b |
| - | - |
| <img src=https://example.com/y.png onerror=hit=1> | `<b>` |
"""


@pytest.mark.parametrize("text", [HOSTILE, f"<html><body><p data-bbox='1 2 3 4'>{HOSTILE}</p></body></html>"])
def test_an_answer_is_text_whatever_it_holds(open_page, text):
    page = open_page()
    scripted(page, text, [(SIZE, GRID)])
    ask(page, "Say it.", SHAPES)
    assert page.evaluate("window.hit") is None
    own = page.locator(".answer").locator(
        "script, iframe, style, img:not([src^='blob:']), svg:not(.icon):not(.stage svg)"
    )
    assert own.count() == 0
    assert page.locator(".prose a, .block a").evaluate_all("all => all.every(a => /^https?:/.test(a.href))")


MARKDOWN = """# Title

A *soft* and **strong** `code` [link](https://example.com/a_b).

1. one
2. two
   - inner

> said

```python
print("<b>")
```

$$
x^2
$$
"""


def test_markdown(open_page):
    page = open_page()
    scripted(page, MARKDOWN)
    ask(page, "Write.")
    html = page.locator(".prose").inner_html()
    for piece in (
        '<h3 class="level-1">Title</h3>',
        "A <em>soft</em> and <strong>strong</strong> <code>code</code>",
        '<a href="https://example.com/a_b" target="_blank" rel="noopener noreferrer">link</a>',
        '<ol start="1"><li>one</li><li>two<ul><li>inner</li></ul></li></ol>',
        "<blockquote><p>said</p></blockquote>",
        '<code>print("&lt;b&gt;")</code>',
        '<pre class="formula">x^2</pre>',
    ):
        assert piece in html


@pytest.mark.parametrize(
    ("status", "message", "shown"),
    [
        (413, "the body is over 32 MB.", "Too large for this server: with its pictures and videos the request has 0"),
        (401, "no key", "The server asks for an API key. Enter it in the settings."),
        (503, "queue full", "The server has too much to do just now (queue full)"),
        (400, "temperature is 9", "temperature is 9"),
    ],
)
def test_a_refusal_is_said(open_page, status, message, shown):
    page = open_page()
    refusal = {"error": {"message": message, "type": "x", "param": None, "code": None}}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=status, json=refusal))
    ask(page, "Hello?", SHAPES)
    assert page.locator(".answer .error").inner_text().startswith(shown)
    assert page.get_by_role("button", name="Answer again").is_visible()
    open_page.complaints.clear()  # the browser itself notes the status


def test_a_stream_that_breaks_is_no_whole_answer(open_page):
    page = open_page()
    body = 'data: {"choices": [{"index": 0, "delta": {"content": "half"}, "finish_reason": null}]}\n\n'
    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    ask(page, "Hello?")
    assert page.locator(".answer .prose").inner_text() == "half"
    assert page.locator(".answer .error").inner_text() == "The connection broke before the answer was whole."


def test_pictures_and_turns_in_the_order_they_were_given(open_page):
    page = open_page()
    bodies = scripted(page, "Yes.")
    ask(page, "First", INPUTS / "one.png", INPUTS / "film.mp4", INPUTS / "two.png")
    ask(page, "Second")
    user, assistant, second = bodies[1]["messages"]
    assert [part["type"] for part in user["content"]] == ["image_url", "video_url", "image_url", "text"]
    assert user["content"][1]["video_url"]["url"].startswith("data:video/mp4;base64,")
    assert assistant == {"role": "assistant", "content": "Yes."} and second == {"role": "user", "content": "Second"}
