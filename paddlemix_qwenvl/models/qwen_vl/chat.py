"""Conversations with Qwen-VL-Chat, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator

import paddle

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.models.qwen_vl.prompt import MAX_WINDOW_SIZE, SYSTEM, chat_ids
from paddlemix_qwenvl.models.qwen_vl.tags import History
from paddlemix_qwenvl.models.qwen_vl.tokenizer import QWenVLTokenizer


class Chat:
    """What a model with `generate` and `stream` (`engine.generate.Generates`) needs to hold a conversation."""

    def chat(
        self,
        tokenizer: QWenVLTokenizer,
        query: str,
        history: History | None = None,
        system: str = SYSTEM,
        append_history: bool = True,
        **generation,
    ) -> tuple[str, History]:
        """The answer to one more question.

        Args:
            query: words, with pictures as `<img>path or address</img>`; `tokenizer.from_list_format` writes them.
            history: (question, answer) of the turns so far; the oldest are left out where all do not fit `max_window_size` tokens.
            append_history: add this turn to `history` itself, too.
            generation: settings of `generate`, and `max_window_size`, 6144 if neither it nor generation_config.json says else.

        Returns:
            `(response, history)`. Tags of boxes stay in the response.

        Raises:
            PromptError: a model that is not for chat, tags that are not closed, or a conversation that is over the model's context.
            MediaError: a picture that cannot be read.
            GenerationError: settings that cannot be carried out.
        """
        history = [] if history is None else history
        inputs = self._chat_inputs(tokenizer, query, history, system, generation)
        ids, _ = self.generate(**{**inputs, **generation})
        response = _Response(tokenizer).decode(ids[0].tolist()).strip()
        if append_history:
            history.append((query, response))
        return response, history

    def chat_stream(
        self,
        tokenizer: QWenVLTokenizer,
        query: str,
        history: History | None = None,
        system: str = SYSTEM,
        **generation,
    ) -> Iterator[str]:
        """The answer while it is generated: all of it so far, each time there is more. Takes what `chat` takes.

        The history is left as it is; generation ends when the iterator is closed.
        """
        inputs = self._chat_inputs(tokenizer, query, history or [], system, generation)
        return self._streamed(tokenizer, {**inputs, **generation})

    def _chat_inputs(self, tokenizer, query: str, history: History, system: str, generation: dict) -> dict:
        defaults = generation.get("generation_config") or self.generation_config
        if (form := getattr(defaults, "chat_format", "chatml")) != "chatml":
            raise PromptError(
                f"generation_config.json says chat_format {form!r}, as that of Qwen/Qwen-VL does, which cannot converse: load "
                f"Qwen/Qwen-VL-Chat, or ask this model with the processor and generate."
            )
        window = generation.pop("max_window_size", None) or getattr(defaults, "max_window_size", MAX_WINDOW_SIZE)
        ids = chat_ids(tokenizer, query, history, system, window)
        ends = [tokenizer.im_end_id, tokenizer.im_start_id, tokenizer.eod_id]
        return {"input_ids": paddle.to_tensor([ids]), "eos_token_id": ends, "remember_images": True}

    def _streamed(self, tokenizer, inputs: dict) -> Iterator[str]:
        text = ""
        for piece in self.stream(_Response(tokenizer), **inputs):
            text += piece
            yield text.strip()


class _Response:
    """Decodes an answer up to where the turn ends, tags and all."""

    def __init__(self, tokenizer: QWenVLTokenizer):
        self._tokenizer = tokenizer
        self._ends = (tokenizer.im_end_id, tokenizer.im_start_id, tokenizer.eod_id)

    def decode(self, token_ids: list[int], skip_special_tokens: bool = False) -> str:
        end = next((place for place, token in enumerate(token_ids) if token in self._ends), len(token_ids))
        return self._tokenizer.decode(token_ids[:end], skip_special_tokens=False)
