"""Tools in Qwen's form (Hermes): told in the system's message, called in `<tool_call>`, answered in `<tool_response>`.

The chat templates of these models know no tools, so messages are written out before they are rendered.
Source of the texts: chat_template of tokenizer_config.json in Qwen/Qwen2.5-VL-3B-Instruct.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from paddlemix_qwenvl.engine.grammar import json_rule
from paddlemix_qwenvl.server.errors import RequestError
from paddlemix_qwenvl.server.protocol_chat import CalledTool, Conversation, NamedTool, Tool, ToolCall

OPENING, CLOSING = "<tool_call>", "</tool_call>"
_SYSTEM = "You are a helpful assistant."
_TOLD = """

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')


def offered(body: Conversation) -> list[Tool]:
    """The tools that the answer may call."""
    return [] if body.tool_choice == "none" else body.tools or []


def must_call(body: Conversation) -> bool:
    """Whether the answer is a call, or several."""
    return body.tool_choice == "required" or isinstance(body.tool_choice, NamedTool)


def chosen(body: Conversation) -> list[Tool]:
    """Those that it must call, one or several of.

    Raises:
        RequestError: there are none, or none of that name.
    """
    choice = body.tool_choice
    found = offered(body)
    if isinstance(choice, NamedTool):
        found = [tool for tool in found if tool.function.name == choice.function.name]
    if not found:
        raise RequestError(
            "tool_choice asks for a call of a tool that tools does not hold: give it there.", 400, "tool_choice"
        )
    return found


def told(tools: Sequence[Tool]) -> str:
    """What follows the system's message to offer these."""
    lines = [json.dumps(tool.model_dump(exclude_none=True), ensure_ascii=False) for tool in tools]
    return _TOLD.format(tools="\n".join(lines))


def system_text(given: str | None, told: str) -> str:
    """The system's message with the tools."""
    return (_SYSTEM if given is None else given) + told


def called(calls: Sequence[ToolCall]) -> str:
    """Calls as the model wrote them."""
    return "\n".join(_written(call.function.name, call.function.arguments) for call in calls)


def _written(name: str, arguments: str) -> str:
    return f'{OPENING}\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}\n{CLOSING}'


def answered(result: str) -> str:
    """What a tool returned, for the user's message."""
    return f"<tool_response>\n{result}\n</tool_response>"


def calls_rules(tools: Sequence[Tool], parallel: bool) -> str:
    """The rule `calls` of a Lark grammar, and what it is made of: one call, or where `parallel` one or more.

    Raises:
        GenerationError: parameters that are no schema.
    """
    rules = [f"calls: call{' (NEXT call)*' if parallel else ''}", r'NEXT: "\n"']
    rules.append("call: " + " | ".join(f"call_{i}" for i in range(len(tools))))
    for i, tool in enumerate(tools):
        before, after = _written(tool.function.name, "\0").split("\0")
        schema = {"type": "object"} | (tool.function.parameters or {"additionalProperties": False})
        rules += [
            f"call_{i}: {json.dumps(before)} arguments_{i} {json.dumps(after)}",
            f"arguments_{i}: {json_rule(schema)}",
        ]
    return "\n".join(rules)


@dataclass
class ToolCallParser:
    """Takes an answer's text piece by piece, and tells what of it is content and what are calls.

    A call's arguments are told as they come. What is between the tags but no call is content.

    Attributes:
        most: calls that are told; later ones are left out.
        count: calls so far.
    """

    most: int | None = None
    count: int = 0
    _held: str = ""
    _call: _Arguments | None = None
    _inside: bool = False

    def add(self, text: str) -> Iterator[str | CalledTool]:
        """What one more piece makes certain."""
        self._held += text
        yield from self._read(final=False)

    def end(self) -> Iterator[str | CalledTool]:
        """What is left."""
        yield from self._read(final=True)

    def _read(self, final: bool) -> Iterator[str | CalledTool]:
        while self._held:
            before = self._held, self._inside, self._call
            yield from self._inside_call(final) if self._inside else self._outside(final)
            if before == (self._held, self._inside, self._call):
                return

    def _outside(self, final: bool) -> Iterator[str]:
        text, tag, rest = self._held.partition(OPENING)
        kept = "" if final or tag else _beginning_of(OPENING, text)
        text = text[: len(text) - len(kept)]
        if self.count and not text.strip():  # the line's end between two calls
            kept, text = ("", "") if final or tag else (text + kept, "")
        self._inside, self._held = bool(tag), rest if tag else kept
        if text:
            yield text

    def _inside_call(self, final: bool) -> Iterator[str | CalledTool]:
        if self._call is None and (head := _HEAD.match(self._held)):
            self._call, self._held = _Arguments(), self._held[head.end() :]
            self.count += 1
            yield from self._told({"name": json.loads(head[1]), "arguments": ""}, id=new_id(), type="function")
        if self._call is not None:
            length = self._call.length_of(self._held)
            if length:
                yield from self._told({"arguments": self._held[:length]})
            self._held = self._held[length:]
        body, tag, rest = self._held.partition(CLOSING)
        if not tag and not final:
            return
        if self._call is None:
            yield from self._whole(body, tag)
        self._inside, self._call, self._held = False, None, rest

    def _whole(self, body: str, tag: str) -> Iterator[str | CalledTool]:
        """A call that is written in another order, or nothing that is one."""
        try:
            call = json.loads(body)
            name, arguments = call["name"], call.get("arguments", {})
        except (ValueError, TypeError, KeyError, RecursionError):
            name = None
        if not isinstance(name, str):
            yield OPENING + body + tag
            return
        self.count += 1
        function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        yield from self._told(function, id=new_id(), type="function")

    def _told(self, function: dict, **more: str) -> Iterator[CalledTool]:
        if self.most is None or self.count <= self.most:
            yield {"index": self.count - 1, **more, "function": function}


@dataclass
class _Arguments:
    """Finds the end of a JSON object that comes in pieces."""

    depth: int = 0
    in_string: bool = False
    escaped: bool = False
    done: bool = field(default=False)

    def length_of(self, text: str) -> int:
        """How much of the next piece belongs to it."""
        if self.done:
            return 0
        for place, sign in enumerate(text):
            if self.in_string:
                self.in_string = self.escaped or sign != '"'
                self.escaped = sign == "\\" and not self.escaped
            elif sign == '"':
                self.in_string = True
            elif sign in "{[":
                self.depth += 1
            elif sign in "}]":
                self.depth -= 1
                if not self.depth:
                    self.done = True
                    return place + 1
        return len(text)


def merged(pieces: Sequence[CalledTool]) -> list[CalledTool]:
    """Whole calls of the pieces in which they came."""
    calls: dict[int, CalledTool] = {}
    for piece in pieces:
        call = calls.setdefault(
            piece["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = piece.get("id", call["id"])
        for name, text in piece["function"].items():
            call["function"][name] += text
    return [calls[index] for index in sorted(calls)]


def new_id() -> str:
    """Of a call."""
    return f"call_{uuid4().hex[:24]}"


def _beginning_of(tag: str, text: str) -> str:
    """The end of `text` that may be the beginning of `tag`."""
    return next((tag[:size] for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), "")
