"""OpenAI's messages as the Hub's."""

from paddlemix_qwenvl.server.messages import hub_messages, media_parts
from paddlemix_qwenvl.server.protocol_chat import Conversation

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def conversation(*messages, **fields) -> Conversation:
    return Conversation.model_validate({"messages": [*messages]} | fields)


def written(*messages, media=(), **fields):
    return hub_messages(conversation(*messages, **fields), media, str.upper)


def test_words_are_escaped_wherever_they_stand():
    assert written(
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "c"}, {"type": "refusal", "refusal": "d"}]},
        {"role": "assistant", "refusal": "e"},
        {"role": "user", "content": "f"},
    ) == [
        {"role": "system", "content": "BE BRIEF"},
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
        {"role": "assistant", "content": "CD"},
        {"role": "assistant", "content": "E"},
        {"role": "user", "content": "F"},
    ]


def test_media_stand_where_they_were_named():
    parts = [
        {"type": "image_url", "image_url": {"url": "data:1", "detail": "low"}},
        {"type": "video_url", "video_url": "data:2", "fps": 1.0},
        {"type": "text", "text": "which?"},
        {"type": "image_url", "image_url": "data:3", "min_pixels": 10},
    ]
    given = {"mm_processor_kwargs": {"min_pixels": 5, "fps": 4.0}}
    sources = media_parts(conversation({"role": "user", "content": parts}, **given))
    assert sources == [
        {"type": "image", "image": "data:1", "max_pixels": 262144, "min_pixels": 5},
        {"type": "video", "video": "data:2", "min_pixels": 5, "fps": 1.0},
        {"type": "image", "image": "data:3", "min_pixels": 10},
    ]
    (message,) = written({"role": "user", "content": parts}, media=["one", "two", "three"], **given)
    assert [part.get(part["type"]) for part in message["content"]] == ["one", "two", "WHICH?", "three"]


def test_tools_calls_and_results_are_written_out():
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    found = written(
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "hm", "tool_calls": [call, call]},
        {"role": "tool", "tool_call_id": "c", "content": "r1"},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "r2"}]},
        {"role": "user", "content": "y"},
        tools=[LOOK],
    )
    system, user, assistant, results, _ = found
    assert system["content"].startswith("You are a helpful assistant.\n\n# TOOLS\n\nYOU MAY CALL")
    assert (
        '<TOOLS>\n{"TYPE": "FUNCTION", "FUNCTION": {"NAME": "LOOK", "PARAMETERS": {"TYPE": "OBJECT"}}}\n</TOOLS>'
        in (system["content"])
    )
    assert user == {"role": "user", "content": "X"}
    one = '<TOOL_CALL>\n{"NAME": "LOOK", "ARGUMENTS": {"AT": 1}}\n</TOOL_CALL>'
    assert assistant["content"] == f"HM\n{one}\n{one}"
    responses = "".join(f"<TOOL_RESPONSE>\nR{i}\n</TOOL_RESPONSE>\n" for i in (1, 2))
    assert results == {"role": "user", "content": responses.rstrip()}


def test_tools_follow_the_system_message():
    found = written({"role": "system", "content": "s"}, {"role": "user", "content": "x"}, tools=[LOOK])
    assert len(found) == 2 and found[0]["content"].startswith("S\n\n# TOOLS")
    assert written({"role": "user", "content": "x"}, tools=[LOOK], tool_choice="none") == [
        {"role": "user", "content": "X"}
    ]
