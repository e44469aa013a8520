"""From a request's body to what the engine is asked. All of it but the fetching of media runs on a worker thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from paddlemix_qwenvl.engine.generate import seeded
from paddlemix_qwenvl.engine.grammar import Grammar, json_rule
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.errors import ContextError, GenerationError
from paddlemix_qwenvl.models.prompts import check_vocabulary
from paddlemix_qwenvl.models.tokenizer import Tokenizer
from paddlemix_qwenvl.server import tool_calls
from paddlemix_qwenvl.server.errors import RequestError
from paddlemix_qwenvl.server.located import Sizes, answer_schema
from paddlemix_qwenvl.server.media import pixels_of
from paddlemix_qwenvl.server.messages import hub_messages
from paddlemix_qwenvl.server.protocol import Given, Sampling, StructuredOutputs
from paddlemix_qwenvl.server.protocol_chat import (
    ChatRequest,
    Conversation,
    JsonObjectFormat,
    JsonSchemaFormat,
    TextFormat,
)
from paddlemix_qwenvl.server.protocol_completions import CompletionRequest, TokenizeChat, TokenizeText

MOST_TEXTS = 128
"""Prompts of /v1/completions, each as often as it is gone on with."""
QUICK_BYTES, QUICK_PIXELS = 1 << 18, 1 << 22
"""Of texts and pictures that are made into a request at once."""
_SLICE = 1 << 16  # characters


@dataclass
class Asked:
    """What one HTTP request asks of the engine: `n` answers to each of its prompts, one after another.

    Attributes:
        sizes: of the pictures, as the processor returned them.
    """

    requests: list[Request]
    sizes: Sizes = field(default_factory=dict)

    @property
    def image_tokens(self) -> int:
        """Tokens of pictures and videos in the first prompt."""
        return sum(len(media.places) for media in self.requests[0].prompt.media)


def takes_long(body: Given, text_bytes: int, media: Sequence[Any]) -> bool:
    """Whether what is asked takes more than a moment to make: long texts, large pictures, or a grammar."""
    form, structured = getattr(body, "response_format", None), getattr(body, "structured_outputs", None)
    is_guided = isinstance(body, ChatRequest) and tool_calls.must_call(body)
    is_guided |= structured is not None or not isinstance(form, TextFormat | None)
    return is_guided or text_bytes > QUICK_BYTES or sum(map(pixels_of, media)) > QUICK_PIXELS


def ask_chat(assistant: Assistant, body: ChatRequest, media: Sequence[Any], salt: bytes) -> Asked:
    """Ask for the next turn of a conversation.

    Args:
        media: its pictures and videos, decoded, in their order.
        salt: that what is remembered of prompts is shared within.

    Raises:
        QwenVLError: what was given cannot be used.
    """
    if body.top_logprobs and not body.logprobs:
        raise RequestError("top_logprobs asks for more of logprobs: set logprobs to true, too.", 400, "top_logprobs")
    messages = _messages(assistant, body, media)
    request, sizes = assistant.request(messages, _template_options(body), **_settings(body, assistant))
    request.grammar = _grammar(assistant, request, lambda: _chat_rules(body, sizes, assistant), body.structured_outputs)
    most = body.max_completion_tokens or body.max_tokens
    request.top_logprobs = (body.top_logprobs or 0) if body.logprobs else 0
    return Asked(_several(_finished(assistant, request, body, most, salt), body), sizes)


def ask_completion(assistant: Assistant, body: CompletionRequest, salt: bytes) -> Asked:
    """Ask for what follows each of these texts, or rows of ids.

    Raises:
        QwenVLError: what was given cannot be used.
    """
    requests: list[Request] = []
    if (count := len(body.prompts) * (body.n or 1)) > MOST_TEXTS:
        raise RequestError(f"{count} texts at a time were asked for: ask for {MOST_TEXTS} at most.", 400, "n")
    for prompt in body.prompts:
        request = assistant.request_of(_inputs(assistant, prompt), **_settings(body, assistant))
        request.grammar = (
            requests[0].grammar if requests else _grammar(assistant, request, str, body.structured_outputs)
        )
        request.top_logprobs = body.logprobs or 0
        requests += _several(_finished(assistant, request, body, body.max_tokens, salt), body)
    return Asked(requests)


def token_ids(assistant: Assistant, body: TokenizeText | TokenizeChat, media: Sequence[Any]) -> list[int]:
    """The ids of a text or a conversation.

    Raises:
        QwenVLError: what was given cannot be used.
    """
    if isinstance(body, TokenizeText):
        return [int(i) for i in _inputs(assistant, body.prompt)["input_ids"][0]]
    messages = _messages(assistant, body, media)
    request, _ = assistant.request(messages, _template_options(body))
    return request.prompt.token_ids.tolist()


def text_of(assistant: Assistant, ids: list[int]) -> str:
    """The text of token ids, special ones by name.

    Raises:
        PromptError: one that the model does not know.
    """
    check_vocabulary(0, max(ids, default=0), assistant.engine.facts.vocab_size)
    return assistant.processor.tokenizer.decode(ids, skip_special_tokens=False)


def _messages(assistant: Assistant, body: Conversation, media: Sequence[Any]) -> list[dict[str, Any]]:
    messages = hub_messages(body, media, assistant.processor.escape)
    contents = [
        [message["content"]] if isinstance(message["content"], str) else message["content"] for message in messages
    ]
    _check_length(
        assistant, [part if isinstance(part, str) else part.get("text", "") for each in contents for part in each]
    )
    return messages


def _check_length(assistant: Assistant, texts: Sequence[str]) -> None:
    """Raises ContextError for texts that are far too long, without reading them to the end. Cut at any place they may have more
    tokens than they have, but not twice as many."""
    left = 2 * (most := assistant.engine.facts.context)
    for text in texts if sum(map(len, texts)) > left else ():
        for start in range(0, len(text), _SLICE):
            left -= len(assistant.processor.tokenizer.encode(text[start : start + _SLICE]))
            if left < 0:
                raise ContextError(
                    f"the texts have over {most} tokens, more than the model's context: send shorter ones."
                )


def _inputs(assistant: Assistant, prompt: str | list[int]) -> dict[str, Any]:
    if isinstance(prompt, str):
        _check_length(assistant, [prompt])
        return assistant.processor(text=[assistant.processor.escape(prompt)], return_tensors="np")
    return {"input_ids": np.asarray([prompt], np.int64)}


def _template_options(body: Conversation) -> dict[str, Any]:
    given = body.chat_template_kwargs
    return {"add_vision_id": True} if given and given.add_vision_id else {}


def _settings(body: Sampling, assistant: Assistant) -> dict[str, Any]:
    """As `Assistant.request_of` takes them. Without a word of `top_k` anywhere there is no limit, as with OpenAI."""
    top_k = body.top_k if body.top_k is not None else getattr(assistant.defaults, "top_k", None)
    return {
        "do_sample": None if body.temperature is None else body.temperature > 0,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": max(0, top_k or 0),
        "min_p": body.min_p,
        "repetition_penalty": body.repetition_penalty,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logit_bias": {int(token): bias for token, bias in (body.logit_bias or {}).items()},
        "seed": None if body.seed is None else body.seed % 2**63,
        "stop_strings": body.stops,
        "priority": body.priority,
    }


def _finished(assistant: Assistant, request: Request, body: Sampling, most: int | None, salt: bytes) -> Request:
    """With lengths that fit, and end tokens and text as they are wanted."""
    engine, length = assistant.engine, len(request.prompt.token_ids)
    room = max(1, min(engine.facts.context, engine.blocks.num_blocks * engine.blocks.block_size) - length)
    most = min(most or getattr(assistant.defaults, "max_new_tokens", None) or room, room)
    if (body.min_tokens or 0) > most:
        raise GenerationError(
            f"min_tokens is {body.min_tokens}: at most {most} fit: ask for fewer, or a larger max_tokens."
        )
    ends = [] if body.ignore_eos else request.settings.eos_token_ids
    settings = replace(
        request.settings,
        max_new_tokens=most,
        min_new_tokens=body.min_tokens or 0,
        eos_token_ids=[*ends, *(body.stop_token_ids or [])],
    )
    decoder = request.decoder if body.skip_special_tokens else _AllTokens(assistant.processor.tokenizer)
    return replace(request, settings=settings, decoder=decoder, cache_salt=salt)


@dataclass
class _AllTokens:
    """A decoder that leaves none out."""

    tokenizer: Tokenizer

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        return self.tokenizer.decode(token_ids, skip_special_tokens=False)


def _several(request: Request, body: Sampling) -> list[Request]:
    """One for each of the `n` answers, whose draws differ."""
    return [replace(request, settings=settings) for settings in seeded(request.settings, body.n or 1)]


def _grammar(
    assistant: Assistant, request: Request, rules: Callable[[], str], structured: StructuredOutputs | None
) -> Grammar | None:
    """What the answer must look like; `rules` are those of a Lark grammar, none for any text."""
    vocabulary, text = assistant.vocabulary(request.settings), rules()
    if structured is None:
        return Grammar.lark(text, vocabulary) if text else None
    if text:
        raise GenerationError(
            "structured_outputs excludes response_format and a tool_choice that calls: give one of them."
        )
    makers = {
        "json_schema": Grammar.json_schema,
        "regex": Grammar.regex,
        "choice": Grammar.choice,
        "grammar": Grammar.lark,
    }
    given = [(make, value) for name, make in makers.items() if (value := getattr(structured, name)) is not None]
    if len(given) != 1:
        raise GenerationError("structured_outputs holds one of json, regex, choice and grammar: give one.")
    make, value = given[0]
    return make(value, vocabulary)


def _chat_rules(body: ChatRequest, sizes: Sizes, assistant: Assistant) -> str:
    """A Lark grammar of the calls that must be made, or of the format, beside which tools may be called."""
    tools, form = tool_calls.offered(body), body.response_format
    parallel = body.parallel_tool_calls is not False
    if tool_calls.must_call(body):
        return "start: calls\n" + tool_calls.calls_rules(tool_calls.chosen(body), parallel)
    if form is None or isinstance(form, TextFormat):
        return ""
    if isinstance(form, JsonObjectFormat):
        wanted = {"type": "object"}
    elif isinstance(form, JsonSchemaFormat):
        wanted = form.json_schema.content
    else:
        wanted = answer_schema(form, sizes, assistant.processor)
    answer = f"answer: {json_rule(wanted)}"
    if not tools:
        return f"start: answer\n{answer}"
    return f"start: answer | calls\n{answer}\n{tool_calls.calls_rules(tools, parallel)}"
