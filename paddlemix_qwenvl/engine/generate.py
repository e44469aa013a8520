"""`generate`: a batch of prompts in, new tokens out, with PaddleNLP's arguments and return value."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

import paddle

from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.engine.beam import beam_search
from paddlemix_qwenvl.engine.decode import Step, generate_tokens
from paddlemix_qwenvl.engine.settings import GenerationSettings, check_leftovers
from paddlemix_qwenvl.engine.stopping import StopStrings
from paddlemix_qwenvl.engine.streaming import stream_text
from paddlemix_qwenvl.errors import GenerationError, PromptError
from paddlemix_qwenvl.models.batch import SIZES
from paddlemix_qwenvl.models.inputs import check_ids, check_tensors

_PLAIN_INPUTS = ("input_ids", "second_per_grid_ts", "remember_images")  # of which the first is looked at before


class Generates:
    """What makes a model of `models/` answer; put before its class.

    The class has `prefill`, `decode`, `config`, `generation_config` and `prompt_inputs` (`models/base.py`).
    """

    def can_generate(self) -> bool:
        """As the hosts ask."""
        return True

    @paddle.no_grad()
    def generate(
        self,
        input_ids=None,
        generation_config=None,
        stopping_criteria=None,
        streamer=None,
        stop_strings: str | list[str] | None = None,
        tokenizer=None,
        **kwargs,
    ):
        """Answer a batch of prompts.

        Args:
            input_ids: int64 `[B, S]`, padded on the left.
            generation_config: defaults in place of the model's `generation_config.json`.
            stopping_criteria: one or several callables as in `engine.stopping`.
            streamer: gets the new tokens of every step by `put`, then `end`.
            stop_strings, tokenizer: a row ends with the first of these strings that its text holds, which stays there.
            kwargs: settings (`max_new_tokens`, `min_new_tokens`, `do_sample`, `temperature`, `top_k`, `top_p`,
                `repetition_penalty`, `eos_token_id`, `seed`, `num_beams`, or PaddleNLP's `decode_strategy`) and the processor's
                other outputs (`attention_mask`, `pixel_values`, `image_grid_thw`, ...). `remember_images=True` keeps the
                features of pictures for when they come again, as in the next turn of a chat; `train()` forgets them.

        Returns:
            PaddleNLP's pair `(ids int64 [B, new], scores float32 [B, 1])`: only new tokens, and their mean log-probability.
            `generation_seconds` of the model then holds "vision", "prefill" and "decode".

        Raises:
            GenerationError: settings that cannot be carried out.
            PromptError: a prompt that does not fit the context or the media.
        """
        if input_ids is None:
            raise PromptError("generate needs input_ids: pass on what the processor returned, generate(**inputs).")
        check_ids(input_ids)
        check_tensors({name: kwargs.get(name) for name in self.prompt_inputs if name not in _PLAIN_INPUTS})
        settings = GenerationSettings.resolve(generation_config or self.generation_config, self.config, kwargs)
        check_leftovers(kwargs, (*self.prompt_inputs, *SIZES))
        settings.check_vocabulary(self.config.vocab_size)
        criteria = [stopping_criteria] if callable(stopping_criteria) else list(stopping_criteria or ())
        if stop_strings:
            if tokenizer is None:
                raise GenerationError("stop_strings need the tokenizer: pass tokenizer=processor.tokenizer as well.")
            criteria.append(StopStrings(tokenizer, input_ids.shape[1], stop_strings))
        if settings.num_beams > 1 and (streamer is not None or criteria):
            raise GenerationError(
                "beam search takes no streamer and no stopping_criteria: leave them out, or num_beams."
            )
        self._check_length(input_ids.shape[1], settings)
        started = time.perf_counter()
        logits, cache = self.prefill(settings.max_new_tokens, input_ids=input_ids, **kwargs)
        step = Step(logits, cache, self.decode, dtype_name(cache.keys[0].dtype))
        logits.numpy()  # waits for the device
        prefill = time.perf_counter() - started
        if settings.num_beams > 1:
            answer = beam_search(step, input_ids, settings)
        else:
            answer = generate_tokens(step, input_ids, settings, streamer, criteria)
        vision = getattr(self, "vision_seconds", 0.0)
        self.generation_seconds = {"vision": vision, "prefill": prefill - vision, "decode": answer.seconds}
        return answer.token_ids, answer.scores

    def stream(self, tokenizer, **inputs) -> Iterator[str]:
        """The first row's text piece by piece while it is generated; arguments as `generate`'s, as in `stream_text`."""
        return stream_text(self.generate, tokenizer, **inputs)

    def _check_length(self, length: int, settings: GenerationSettings) -> None:
        """A prompt that fills the context is an error; a shorter one gets as many new tokens as fit."""
        context = self.config.max_position_embeddings
        if length >= context:
            raise PromptError(
                f"the prompt has {length} tokens and the model's context is {context}: shorten it, or give fewer images, or "
                f"where the processor takes one, a smaller max_pixels."
            )
        settings.max_new_tokens = min(settings.max_new_tokens, context - length)


@functools.cache
def generating(model_class: type) -> type:
    """A class of `models/` with `Generates` in front of it."""
    return type(
        model_class.__name__, (Generates, model_class), {"__module__": __name__, "__doc__": model_class.__doc__}
    )
