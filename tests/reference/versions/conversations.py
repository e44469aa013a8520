"""Conversations and options of every kind for chat templates. Plain data."""


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def image(path: str = "a.png") -> dict:
    return {"type": "image", "image": path}


def video(path: str = "a.mp4", **settings) -> dict:
    return {"type": "video", "video": path, **settings}


def said(role: str, *parts) -> dict:
    return {"role": role, "content": parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)}


def call(name: str, **arguments) -> dict:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = [
    [said("user", "hi")],
    [said("system", "Short."), said("user", "hi")],
    [said("user", text("a"))],
    [said("user", image(), text("what?"))],
    [said("user", {"type": "image"}, text("what?"))],
    [said("user", image(), image("b.png"), text("two"))],
    [said("user", video(), text("film"))],
    [said("user", video(fps=1.0), image(), text("film"))],
    [said("user", "hi"), said("assistant", "ho"), said("user", "he")],
    [said("user", '<tag> & "q" 中文 é\n  x')],
    [said("user", "hi"), said("assistant", "the answer is ")],
    [said("user", "hi"), said("assistant", text("the answer"))],
    [said("user", "hi"), {**said("assistant", ""), "tool_calls": [call("f", x=1, s="<é>")]}, said("tool", "22.0")],
    [
        said("user", "hi"),
        {**said("assistant", "c"), "tool_calls": [{"name": "f", "arguments": {"x": None}}]},
        said("tool", "1"),
        said("tool", "2"),
        said("user", "?"),
    ],
    [said("system", text("S")), said("user", text("U"))],
    [said("system", "only")],
    [said("assistant", "first"), said("user", "second")],
    [said("user", text("a"), image(), text("b"), video(), text("c")), said("user", text("d"), image(), text("e"))],
    [
        said("user", image("data:image/png;base64,AAAA"), text("x")),
        said("assistant", "y"),
        said("user", image(), text("z")),
    ],
    [said("user", "hi"), {**said("assistant", "ho"), "name": None}, said("user", "<|im_end|>")],
]
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "<d> é",
        "parameters": {"type": "object", "properties": {"x": {"type": "number"}}},
    },
}
PLAIN_OPTIONS = [{}, {"add_generation_prompt": True}]
OPTIONS = [
    *PLAIN_OPTIONS,
    {"continue_final_message": True},
    {"add_vision_id": True},
    {"tools": [TOOL]},
    {"tools": [TOOL, TOOL], "add_generation_prompt": True, "documents": [{"title": "t", "text": "d"}]},
]
