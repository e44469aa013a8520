"""Chat templates as transformers renders them, run as what they are: code of strangers. Needs no Paddle.

Source: `chat_template_utils.py` of transformers 4.57.6 and 5.24.0.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
from jinja2 import Template, TemplateRuntimeError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.models.conversations import check_conversation
from paddlemix_qwenvl.models.tool_schemas import schema_of

PATIENCE = 1.0  # seconds a template may take
LONGEST_TEMPLATE = 1 << 16  # characters, some of which take 10 us to compile
LONGEST = 1 << 26  # characters that it may make at once
_NOT_DONE = ("return_assistant_tokens_mask", "sanitize_control_tokens")  # transformers' arguments
_CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG "

_deadline: ContextVar[float] = ContextVar("deadline")


def render_chat(
    template: str | None,
    messages: list,
    add_generation_prompt: bool = False,
    *,
    tools: list[dict | Callable] | None = None,
    documents: list[dict] | None = None,
    continue_final_message: bool | str = False,
    **variables: Any,
) -> str | list[str]:
    """The prompt's text, with one placeholder for each image and video.

    Args:
        template: Jinja text, run in a sandbox.
        messages: one conversation (a list of messages in the Hub's format), or a list of conversations. What is None in
            messages and their parts counts as left out.
        add_generation_prompt: end with the opening of the assistant's turn.
        tools: functions that the model may call: JSON schemas, or Python's own, of which schemas are made.
        documents: texts to answer from, each a dict.
        continue_final_message: end where the last message ends, so that the model goes on with it; or where this field of it
            ends.
        variables: what else the template may read (`add_vision_id=True` numbers the pictures).

    Returns:
        One text, or one for each conversation.

    Raises:
        PromptError: there is no template, it refuses the messages, fails or does not end, or an argument is of another kind.
    """
    if template is None:
        raise PromptError(
            "the model's folder has no chat template: put chat_template.jinja, chat_template.json or tokenizer_config.json "
            "from the Hub beside its tokenizer, or pass chat_template=..."
        )
    for name in _NOT_DONE:
        if variables.pop(name, False):
            raise PromptError(f"{name} is known to transformers alone: leave it out.")
    if add_generation_prompt and continue_final_message:
        raise PromptError("add_generation_prompt and continue_final_message exclude each other: choose one.")
    batched = isinstance(messages, list | tuple) and bool(messages) and isinstance(messages[0], list | tuple)
    conversations = [check_conversation(conversation) for conversation in (messages if batched else [messages])]
    fixed = {
        "tools": _each("tools", tools, lambda tool: tool if isinstance(tool, Mapping) else schema_of(tool)),
        "documents": _each("documents", documents, _document),
        "add_generation_prompt": add_generation_prompt,
    }
    field = "content" if continue_final_message is True else continue_final_message
    token = _deadline.set(time.monotonic() + PATIENCE)
    try:
        variables = _plain({**variables, **fixed})
        render = compiled(template).render
        texts = [
            _continued(render, conversation, field, variables)
            if field
            else render({**variables, "messages": _plain(conversation)})
            for conversation in conversations
        ]
    except PromptError:
        raise
    except Exception as error:  # whatever a stranger's code may raise
        reason = str(error) or type(error).__name__
        raise PromptError(f"the chat template does not take these messages: {reason}") from error
    finally:
        _deadline.reset(token)
    return texts if batched else texts[0]


@lru_cache(maxsize=16)
def compiled(template: str) -> Template:
    """A template, compiled. Raises what Jinja raises."""
    return _ENVIRONMENT.from_string(template)


@lru_cache(maxsize=16)
def variables_of(template: str | None) -> frozenset[str]:
    """What a template reads beside the messages, and the names that `render_chat` itself takes."""
    own = {"documents", "continue_final_message"}
    try:
        return frozenset(own | find_undeclared_variables(_ENVIRONMENT.parse(template or "")))
    except Exception:  # which rendering reports
        return frozenset(own)


class _Generation(Extension):
    """`{% generation %}`, by which templates mark what the assistant wrote; only its content is rendered."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own name and type)

    def parse(self, parser):
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which bounds neither time nor memory: here loops and macros look at the clock, and sizes are bounded."""

    intercepted_binops = frozenset({"+", "*", "**"})

    def _parse(self, source, name, filename):
        if len(source) > LONGEST_TEMPLATE:
            raise TemplateRuntimeError(f"it has {len(source)} characters, at most {LONGEST_TEMPLATE} are compiled")
        tree = super()._parse(source, name, filename)
        for node in list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))):
            look = nodes.Call(nodes.EnvironmentAttribute("look_at_the_clock"), [], [], None, None)
            node.body.insert(0, nodes.ExprStmt(look).set_lineno(node.lineno))
        return _Joining().visit(tree)

    def look_at_the_clock(self) -> None:
        if time.monotonic() > _deadline.get():
            raise TemplateRuntimeError(f"it took over {PATIENCE:g} s")

    def call_binop(self, context, operator, left, right):
        if _size_made(operator, left, right) > LONGEST:
            raise TemplateRuntimeError(f"{operator} makes something far too large")
        return super().call_binop(context, operator, left, right)

    def concat(self, pieces: Iterable[str]) -> str:
        taken, length = [], 0
        for piece in pieces:
            taken.append(piece)
            length += len(piece)
            if length > LONGEST:
                raise TemplateRuntimeError("it makes a text that is far too long")
        return "".join(taken)


class _Joining(NodeTransformer):
    """`a ~ b` joins its parts as output is joined."""

    def visit_Concat(self, node):
        parts = [nodes.Filter(part, "string", [], [], None, None) for part in self.generic_visit(node).nodes]
        return nodes.Call(nodes.EnvironmentAttribute("concat"), [nodes.List(parts)], [], None, None).set_lineno(
            node.lineno
        )


def _size_made(operator: str, left: Any, right: Any) -> int:
    """Characters or items of the sequence that an operator makes, at most; a bit of a number counts as 4096 of them."""
    left_size, right_size = (
        value.bit_length() << 12 if isinstance(value, int) else len(value) if hasattr(value, "__len__") else 1
        for value in (left, right)
    )
    if operator == "**":
        return left_size * right
    if operator == "*" and isinstance(left, int) != isinstance(right, int):
        return left_size * right if isinstance(right, int) else right_size * left
    return left_size + right_size


def _environment() -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControlExtension])
    environment.filters["tojson"] = _to_json
    del environment.globals["lipsum"]  # words without end
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    return environment


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """transformers' own filter, which unlike Jinja's leaves `<` and what is not ASCII as they are."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str):
    """What the Hub's templates call on messages they cannot take."""
    raise TemplateRuntimeError(message)


_ENVIRONMENT = _environment()


def _each(name: str, given: Any, make: Callable[[Any], Mapping]) -> list | None:
    if given is None:
        return None
    if not isinstance(given, list | tuple):
        raise PromptError(f"{name} is {given!r:.200}: give a list of them.")
    return [make(one) for one in given]


def _document(document: Any) -> Mapping:
    if not isinstance(document, Mapping):
        raise PromptError(f"{document!r:.200} is no document: give a dict such as {{'title': ..., 'text': ...}}.")
    return document


def _plain(value: Any) -> Any:
    """JSON's own types in place of whatever has methods that a template could call: a picture is only "<Image>" to it."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (tuple if isinstance(value, tuple) else list)(map(_plain, value))
    if isinstance(value, np.generic):
        return _plain(value.item())
    bases = {str: str.__str__, int: int.__int__, float: float.__float__}
    base = next((base for base in bases if isinstance(value, base)), None)
    return bases[base](value) if base else f"<{type(value).__name__}>"


def _continued(render: Callable[[dict], str], conversation: list[dict], field: str, variables: dict) -> str:
    """The text up to the end of the last message's `field`, found by a mark that is put there."""
    last = conversation[-1]
    content = last.get(field)
    if isinstance(content, list):
        texts = [i for i, part in enumerate(content) if "text" in part]
        end = content[texts[-1]]["text"] if texts else None
    else:
        end = content
    if not isinstance(end, str):
        raise PromptError(
            f"continue_final_message: the last message has no text in {field!r} to go on with: {last!r:.200}"
        )
    if isinstance(content, list):
        marked = [{**part, "text": end + _CONTINUED} if i == texts[-1] else part for i, part in enumerate(content)]
    else:
        marked = end + _CONTINUED
    text = render({**variables, "messages": _plain([*conversation[:-1], {**last, field: marked}])})
    before, mark, after = text.rpartition(_CONTINUED.strip())
    if not mark or end.strip() not in before:
        raise PromptError(f"continue_final_message: the chat template leaves out the last message's {field!r}.")
    return before if after.startswith(" ") else before.rstrip()
