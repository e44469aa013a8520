"""What is told of the pictures of a request, and which of them an answer means."""

import pytest

from paddlemix_qwenvl.server.located import first_shown, grounding
from paddlemix_qwenvl.server.protocol_chat import ChatRequest


class Processor:
    """Of a family whose coordinates count on the resized picture."""

    grid = None


def shown(counts: list[int]) -> ChatRequest:
    """A conversation whose messages show so many pictures; a message without any is a text."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    contents = [[picture] * count + [{"type": "text", "text": "What?"}] if count else "What?" for count in counts]
    return ChatRequest(messages=[{"role": "user", "content": content} for content in contents])


@pytest.mark.parametrize(
    ("counts", "first"), [([0], 0), ([2], 0), ([1, 0], 0), ([1, 2], 1), ([2, 1, 0], 2), ([0, 3, 2], 3)]
)
def test_an_answer_means_the_pictures_that_were_shown_last(counts, first):
    assert first_shown(shown(counts)) == first


def test_what_is_written_there_is_told():
    sizes = {"original_sizes": [(100, 50)] * 2, "resized_sizes": [(200, 100)] * 2}
    text = '[{"bbox_2d": [20, 40, 60, 80], "text_content": "OPEN"}, {"point_2d": [2, 4], "label": "dot"}]'
    assert grounding(text, sizes, Processor, 1) == [
        {"kind": "box", "label": "", "coords": [10.0, 20.0, 30.0, 40.0], "image": 1, "text": "OPEN"},
        {"kind": "point", "label": "dot", "coords": [1.0, 2.0], "image": 1},
    ]


def test_a_stream_begins_with_the_pictures(stream, picture):
    parts = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": "Locate the red square."}]
    body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 2}
    first = stream("/v1/chat/completions", **body, grounding=True)[0]["choices"][0]["delta"]
    assert first == {"role": "assistant", "content": "", "pictures": [{"size": [840, 560], "grid": [392, 252]}]}
    assert "pictures" not in stream("/v1/chat/completions", **body)[0]["choices"][0]["delta"]
