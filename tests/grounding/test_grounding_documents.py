"""Pages in QwenVL HTML and in ordinary HTML, and what becomes of them in Markdown."""

import pytest

from paddlemix_qwenvl.errors import GroundingError
from paddlemix_qwenvl.grounding import Block, parse_document, to_markdown

ORIGINAL, RESIZED = (2016, 3080), (1008, 1540)

# The layout of the technical report's listing, with contents of our own.
PAGE = """Here is the page:
```html
<html><body>
<h2 data-bbox="310 94 658 132">A <b>Technical</b>
  Report</h2>
<p data-bbox="427 154 542 182">First line<br/>second &amp; last</p>
<div class="image" data-bbox="262 195 708 272"><img data-bbox="262 195 708 272"/></div>
<style>table1 {border: 1px}</style><table data-bbox="10 300 500 400" class="table1">
<thead><tr><th>size</th><th>a|b</th></tr></thead>
<tbody><tr><td>3B</td><td>53.1</td></tr></tbody></table>
<div class="chart" data-bbox="10 410 500 500"><img data-bbox="10 410 500 500" />
<table><tr><td>2023</td><td>7</td></tr></table></div>
<div class="formula" data-bbox="10 510 500 540"><img data-bbox="10 510 500 540" /><div>$$x<y \\cdot E = mc^2$$</div></div>
<div class="image caption" data-bbox="10 550 500 700"><img data-bbox="10 550 500 700" /><p>A [red]  kite</p></div>
<div class="music sheet" format="abc notation" data-bbox="10 710 500 800"><img data-bbox="10 710 500 800" /><div>X:1
K:C
C D E|</div></div>
<div class="chemical formula" format="smile" data-bbox="10 810 500 900"><img data-bbox="10 810 500 900" /><div>CCO</div></div>
<ol data-bbox="10 910 500 960"><li data-bbox="10 910 500 930">one</li><li data-bbox="10 940 500 960">two</li></ol>
<ul><li>dot</li></ul>
<pre data-bbox="10 970 500 990">def f():
    return 1</pre>
<div class="footer" data-bbox="10 1500 500 1520">page 7</div>
</body></html>
```
Tell me if you need more."""

TYPES = [
    "heading",
    "paragraph",
    "image",
    "table",
    "chart",
    "formula",
    "image",
    "music",
    "chemistry",
    "list_item",
    "list_item",
    "list_item",
    "code",
    "footer",
]


def read(html):
    return parse_document(html, ORIGINAL, RESIZED)


def test_every_kind_of_block():
    blocks = read(PAGE)
    assert [block.type for block in blocks] == TYPES
    assert [block.order for block in blocks] == list(range(14))
    assert blocks[0] == Block("heading", "A Technical Report", (620.0, 188.0, 1316.0, 264.0), 0, level=2)
    assert blocks[1].text == "First line\nsecond & last"
    assert blocks[3].rows == (("size", "a|b"), ("3B", "53.1")) and blocks[3].text == "size\ta|b\n3B\t53.1"
    assert blocks[4].rows == (("2023", "7"),)
    assert [block.text for block in blocks[5:9]] == ["x<y \\cdot E = mc^2", "A [red] kite", "X:1\nK:C\nC D E|", "CCO"]
    assert [block.level for block in blocks[9:12]] == [1, 2, 0]
    assert blocks[11].box is None and blocks[12].text == "def f():\n    return 1"


def test_markdown():
    assert (
        to_markdown(read(PAGE))
        == """## A Technical Report

First line  
second & last

![]()

| size | a\\|b |
| --- | --- |
| 3B | 53.1 |

| 2023 | 7 |
| --- | --- |

$$
x<y \\cdot E = mc^2
$$

![A (red) kite]()

```abc
X:1
K:C
C D E|
```

```smiles
CCO
```

1. one
2. two
- dot

```
def f():
    return 1
```

page 7
"""
    )
    assert to_markdown([]) == ""
    assert to_markdown([Block("code", "```\n", None, 0)]).startswith("````\n```")


def test_spans_repeat_their_cell():
    html = (
        "<table><tr><td rowspan=2>a</td><th colspan='2'>b</th></tr><tr><td>c</td><td rowspan=0>d</td></tr>"
        "<tr><td>e<table><tr><td>inner</td></tr></table></td></tr></table>"
    )
    (table,) = read(html)
    assert table.rows == (("a", "b", "b"), ("a", "c", "d"), ("e\ninner", "", ""))


@pytest.mark.parametrize("span", ["99999999999", "9999", "-1", "x", ""])
def test_spans_beyond_reason(span):
    cell = f"<td colspan='{span}' rowspan='{span}'>a</td>"
    (table,) = read(f"<table><tr>{cell * 3}</tr><tr></tr></table>")
    assert {cell for row in table.rows for cell in row} <= {"a", ""} and len(table.rows[0]) <= 200


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("", []),
        (" \n", []),
        ("just text", [("paragraph", "just text", None)]),
        ('<p data-bbox="1 2 3 4">cut off in the mid', [("paragraph", "cut off in the mid", (2, 4, 6, 8))]),
        ('<p data-bbox="1 2 3 4">one</p><p data-bbox="5 6', [("paragraph", "one", (2, 4, 6, 8))]),
        (
            '<p data-bbox="1 2 3 4">one<p data-bbox="5 6 7 8">two',
            [("paragraph", "one", (2, 4, 6, 8)), ("paragraph", "two", (10, 12, 14, 16))],
        ),
        ("<p>one</p><di", [("paragraph", "one", None)]),
        ('<p data-bbox="1 2 3">bad box</p>', [("paragraph", "bad box", None)]),
        ('<p data-bbox="3,4,1,2">swapped', [("paragraph", "swapped", (2, 4, 6, 8))]),
        ('<p data-bbox="-5 0 9000 20">clipped', [("paragraph", "clipped", (0, 0, 2016, 40))]),
        ('<p data-polygon="1 2 5 2 5 8 1 8">tilted', [("paragraph", "tilted", (2, 4, 10, 16))]),
        ('<p data-bbox="1 2 3 4"></p>', [("paragraph", "", (2, 4, 6, 8))]),
        (
            '<div class="formula"><div data-bbox="1 2 3 4">a</div><div data-bbox="3 4 5 6">b</div></div>',
            [("formula", "a\nb", (2, 4, 10, 12))],
        ),
        (
            '<div class="table" data-bbox="1 2 3 4"><table><tr><td>a</td></tr></table></div>',
            [("table", "a", (2, 4, 6, 8))],
        ),
        ('<div data-bbox="1 2 3 4"><p data-bbox="1 2 3 4">in</p></div>', [("paragraph", "in", (2, 4, 6, 8))]),
        (
            "<html><body>stray <b>bits</b> of text<h1>T</h1>tail</body>",
            [("paragraph", "stray bits of text", None), ("heading", "T", None), ("paragraph", "tail", None)],
        ),
        ("<p>if a<b and c>d, a <b>bold</b> one</p>", [("paragraph", "if a<b and c>d, a bold one", None)]),
        ("<p>a</p>```", [("paragraph", "a", None)]),
        ("```html\n<p>a</p>```", [("paragraph", "a", None)]),
        ("```html\n<p>a</p>\n```\n```html\n<p>b</p>\n```\nDone.", [("paragraph", "a", None), ("paragraph", "b", None)]),
        (
            "```html\n<pre>\n```sh\nls\n```</pre><p>b</p>\n```",
            [("code", "```sh\nls\n```", None), ("paragraph", "b", None)],
        ),
        ("<!-- note --><p>a\0b\ud800</p><?php x ?>", [("paragraph", "a\ufffdb\ufffd", None)]),
        (
            '<nav><ul><li><a href="#">网页</a></li></ul></nav><article><a><h3>题</h3></a><img alt="图"></article>',
            [("list_item", "网页", None), ("heading", "题", None), ("image", "图", None)],
        ),
        ('<p><img src="x"></p>', [("image", "", None)]),
    ],
)
def test_what_can_be_read_is_kept(html, expected):
    assert [(block.type, block.text, block.box) for block in read(html)] == expected


def test_any_beginning_of_a_page_keeps_a_beginning_of_its_blocks():
    whole = [block.text for block in read(PAGE)]
    for end in range(PAGE.index("```") + 8, len(PAGE), 7):
        texts = [block.text for block in read(PAGE[:end])]
        same = [text for text, other in zip(texts, whole, strict=False) if text == other]
        assert len(same) >= len(texts) - 1


def test_bad_arguments():
    with pytest.raises(GroundingError, match=r"original_size is \(0, 1\); expected \(width, height\)"):
        parse_document("", (0, 1), (1, 1))
    with pytest.raises(GroundingError, match="resized_size is None"):
        parse_document("", (1, 1), None)
    with pytest.raises(GroundingError, match="a str, got bytes"):
        parse_document(b"<p>", (1, 1), (1, 1))


def test_a_block_can_be_drawn():
    (block,) = parse_document('<table data-bbox="1 2 30 40"><tr><td>a</td></tr></table>', (100, 100), (50, 50))
    item = block.as_item()
    assert (item.kind, item.label, item.text, item.coords) == ("box", "1 table", "a", (2.0, 4.0, 60.0, 80.0))
