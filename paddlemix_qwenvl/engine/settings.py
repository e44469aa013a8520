"""What a call of `generate` was asked to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from paddlemix_qwenvl.errors import ConfigurationError, GenerationError
from paddlemix_qwenvl.fields import checked
from paddlemix_qwenvl.models.generation_config import GenerationFields

_LENGTHS = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
_DONE_ANYWAY = {
    "use_cache": True,
    "num_beam_groups": 1,
    "trunc_input": True,
    "diversity_rate": 0.0,
}
"""What PaddleNLP and transformers take that is no setting here -> the value that changes nothing."""
_STRATEGIES = {"greedy_search": (False, 1), "sampling": (True, 1), "beam_search": (False, None)}


@dataclass
class GenerationSettings:
    """Arguments of `generate`, with transformers' names and meanings.

    Attributes:
        max_new_tokens, min_new_tokens: bounds of the number of tokens added to the prompt.
        do_sample: draw by `temperature`, `top_k` (0 for no limit) and `top_p`; otherwise take the likeliest token.
        min_p: keep what is at least this share as probable as the likeliest token.
        repetition_penalty: factor against every token of the prompt and the answer so far (1 for none).
        presence_penalty, frequency_penalty: taken off the logits of tokens in the answer, once or for each time (OpenAI's).
        logit_bias: added to the logits of single tokens.
        eos_token_ids: tokens that end a row.
        pad_token_id: fills finished rows.
        num_return_sequences: answers to the same prompt, drawn apart.
        prompt_lookup_num_tokens: tokens that are looked up at a time in what was there before, and checked in one step; 0 for none.
        num_beams, length_penalty, early_stopping: beam search.
        seed: of the draws; None takes one from `paddle.seed`'s generator.
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    eos_token_ids: list[int] = field(default_factory=list)
    pad_token_id: int = 0
    num_return_sequences: int = 1
    prompt_lookup_num_tokens: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    seed: int | None = None

    def __post_init__(self):
        if self.min_new_tokens > self.max_new_tokens:
            raise GenerationError(
                f"min_new_tokens is {self.min_new_tokens}: it must be at most max_new_tokens, {self.max_new_tokens}; what the call "
                f"does not say comes from generation_config.json."
            )
        if self.num_beams > 1 and self.do_sample:
            raise GenerationError(
                f"do_sample is true and num_beams is {self.num_beams}, which exclude each other: choose one; what the call does "
                f"not say comes from generation_config.json."
            )
        if self.num_return_sequences > 1 and (self.num_beams > 1 or not self.do_sample):
            raise GenerationError(
                f"num_return_sequences is {self.num_return_sequences}, but only samples differ from each other: set do_sample=True "
                f"and leave num_beams out."
            )
        if not self.do_sample:
            self.temperature = 0.0

    @property
    def width(self) -> int:
        """Sequences that go on after the prompt: beams, or answers."""
        return max(self.num_beams, self.num_return_sequences)

    @classmethod
    def resolve(cls, defaults, config, given: dict) -> GenerationSettings:
        """Settings from the call's arguments, else from `generation_config.json`, else from the model's config.

        Args:
            defaults: a `GenerationConfig`, ours or a host's; where its `max_new_tokens` is None, 128 it is.
            config: the model's config.
            given: the call's keyword arguments; those that are settings are taken out of it.

        Raises:
            GenerationError: a value that cannot be carried out.
        """
        names = [each.name for each in fields(GenerationFields)]
        own = [name for name in names if name not in _LENGTHS]  # which PaddleNLP always has, and nobody reads
        file = _checked({name: getattr(defaults, name, None) for name in own}, "the generation config")
        call = _checked({name: given.pop(name) for name in names if name in given}, "generate")
        strategy = file.pop("decode_strategy", None)
        file.setdefault("do_sample", strategy == "sampling")
        beams = strategy == "beam_search" or (strategy is None and not file["do_sample"])
        file["num_beams"] = file.get("num_beams", 1) if beams else 1
        values = {**file, **_without_host_spelling(call)}
        eos = _first(values.get("eos_token_id"), config.eos_token_id, [])
        values["eos_token_ids"] = list(eos) if isinstance(eos, list | tuple) else [eos]
        pad = (values.get("pad_token_id"), config.pad_token_id, (values["eos_token_ids"] or [0])[0])
        values["pad_token_id"] = _first(*pad)
        return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})

    def within_context(self, prompt_tokens: int, context: int) -> GenerationSettings:
        """The same with as many new tokens as fit."""
        room = max(1, context - prompt_tokens)
        least, most = min(self.min_new_tokens, room), min(self.max_new_tokens, room)
        return replace(self, min_new_tokens=least, max_new_tokens=most)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises GenerationError for tokens that the model has no row for."""
        tokens_by_name = {
            "eos_token_id": self.eos_token_ids,
            "pad_token_id": [self.pad_token_id],
            "logit_bias": [*self.logit_bias],
        }
        for name, tokens in tokens_by_name.items():
            for token in tokens:
                if not 0 <= token < vocab_size:
                    raise GenerationError(
                        f"{name} is {token} but the model knows tokens 0 to {vocab_size - 1}: give one of these, here or in "
                        f"generation_config.json."
                    )


def stop_texts(given) -> tuple[str, ...]:
    """One or several stop strings, or None, as `Request.stop` has them.

    Raises:
        GenerationError: what is no text, or an empty one.
    """
    texts = (given,) if isinstance(given, str) else given or ()
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise GenerationError(f"stop_strings is {given!r:.100}: give a text or a list of texts.")
    if not all(texts):
        raise GenerationError("stop_strings holds an empty text, which is everywhere: leave it out.")
    return tuple(texts)


def check_leftovers(left: dict, inputs: Iterable[str]) -> None:
    """A misspelt setting must not be lost in silence. What asks for nothing passes: None, False, and what is done anyway.

    Args:
        left: the arguments of a call of `generate` that are no settings.
        inputs: names that the model or the grounding knows.

    Raises:
        GenerationError: an argument that nobody knows.
    """
    known = [f.name for f in fields(GenerationSettings)]
    for name in left.keys() - set(inputs):
        value = left[name]
        if value is None or value is False or (name in _DONE_ANYWAY and value == _DONE_ANYWAY[name]):
            continue
        near = get_close_matches(name, [*known, *inputs], 1) or ["max_new_tokens"]
        raise GenerationError(
            f"generate knows no argument {name!r} (did you mean {near[0]!r}?): settings are {', '.join(known)}; "
            f"everything else is what the processor returned."
        )


def _checked(given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Those that are given; what NumPy and Paddle have for a number or a list counts as one."""
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in given.items()}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
    try:
        return checked(GenerationFields, plain, source).given()
    except ConfigurationError as error:
        raise GenerationError(str(error)) from error


def _without_host_spelling(call: dict[str, Any]) -> dict[str, Any]:
    """PaddleNLP's `decode_strategy`, `max_length` and `min_length` under transformers' names, which go first."""
    values = {_LENGTHS[name]: value for name, value in call.items() if name in _LENGTHS}
    if "decode_strategy" in call:
        values["do_sample"], beams = _STRATEGIES[call["decode_strategy"]]
        values["num_beams"] = beams or max(2, call.get("num_beams", 4))
    return {**values, **call}


def _first(*values):
    return next(value for value in values if value is not None)
