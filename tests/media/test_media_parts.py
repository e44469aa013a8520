import numpy as np
import pytest

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.media import check_parts, process_vision_info

IMAGE, VIDEO = {"type": "image", "image": "a.png"}, {"type": "video", "video": "a.mp4", "fps": 1}


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ({"type": "text", "text": ""}, {"type": "text", "text": ""}),
        ({"text": "a"}, {"type": "text", "text": "a"}),
        ({"type": "text", "text": "a", "image": None, "video": None}, {"type": "text", "text": "a"}),
        ({"type": "image"}, {"type": "image"}),
        ({"type": "image", "image": None}, {"type": "image"}),
        ({"image": "a.png"}, IMAGE),
        ({"type": None, "image": "a.png", "text": None}, IMAGE),
        ({"type": "image_url", "image_url": "a.png"}, IMAGE),
        ({"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}}, IMAGE),
        ({"type": "image_url", "image": "a.png"}, IMAGE),
        ({"type": "image", "url": "a.png"}, IMAGE),
        ({"type": "image", "path": "a.png"}, IMAGE),
        ({"image": "a.png", "max_pixels": 9, "min_pixels": None}, {**IMAGE, "max_pixels": 9}),
        ({"type": "video", "video": "a.mp4", "image": None, "fps": 1}, VIDEO),
        ({"fps": 1, "video_url": {"url": "a.mp4"}}, VIDEO),
        ({"type": "video_url", "video_url": "a.mp4", "fps": 1}, VIDEO),
        ({"type": "video", "path": "a.mp4", "fps": 1}, VIDEO),
    ],
    ids=str,
)
def test_parts_are_brought_into_the_form_of_the_hub(part, wanted):
    before = dict(part)
    assert check_parts([{"role": "user", "content": [part]}]) == [{"role": "user", "content": [wanted]}]
    assert part == before


def test_all_else_in_a_message_stays_as_it_is():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": None}}]},
        {"role": "observation", "name": "f"},
        {"role": "user", "content": []},
    ]
    assert check_parts(messages) == messages
    assert check_parts(()) == []
    assert process_vision_info(messages) == (None, None)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"type": "audio", "audio": "a.wav"},
            "'audio' that holds audio is not known; known types are text, image, image_u",
        ),
        ({"type": "input_audio", "input_audio": {"data": ""}}, "type 'input_audio'"),
        ({"type": "input_text", "text": "a"}, "type 'input_text' that holds text is not known"),
        ({"type": "input_image", "image_url": "a.png"}, "type 'input_image'"),
        ({"type": ["image"], "image": "a.png"}, r"type \['image'\]"),
        ({"type": "Text", "text": "a"}, "type 'Text'"),
        ({}, "type None that holds nothing is not known"),
        ({"url": "a.png"}, "type None that holds url is not known"),
        ({"type": "text", "content": "hi"}, "type 'text' holds a string under 'text'; this one holds content"),
        ({"type": "text", "text": None}, "type 'text' holds a string under 'text'; this one holds nothing"),
        ({"type": "text", "text": 3}, "type 'text' holds a string under 'text'; this one holds text"),
        ({"text": "a", "image": "a.png"}, "that is text holds text, image; give each"),
        ({"type": "text", "text": "a", "video": "a.mp4"}, "that is text holds text, video; give each"),
        ({"type": "image", "video": "a.mp4"}, "that is image holds video; give each"),
        ({"image": "a.png", "image_url": "b.png"}, "that is image holds image, image_url; give each"),
        ("hello", "not str; write {'type': 'text', 'text': ...}"),
    ],
    ids=str,
)
def test_parts_that_nobody_knows_are_refused_by_name(part, message):
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "q"}]}]
    for refuse in (check_parts, process_vision_info):
        with pytest.raises(PromptError, match=message):
            refuse(messages)


@pytest.mark.parametrize(
    "content", [{"type": "text", "text": "a"}, 3, np.array([IMAGE])], ids=lambda c: type(c).__name__
)
def test_contents_of_another_form_are_refused(content):
    with pytest.raises(PromptError, match=f"is a text or a list of parts, not {type(content).__name__}"):
        check_parts([{"role": "user", "content": content}])


@pytest.mark.parametrize(
    "messages", ["hello", None, {"role": "user", "content": "a"}, [None], [3], [[None]], [[], "a"]]
)
def test_what_is_no_list_of_messages_is_refused(messages):
    with pytest.raises(PromptError, match=r"(Messages are a list of|A message is) \{'role'"):
        process_vision_info(messages)
