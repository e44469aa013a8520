"""What a call of `generate` was asked to do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from paddlemix_qwenvl.errors import GenerationError

if TYPE_CHECKING:  # the predictor's process has no PaddleNLP
    from paddlenlp.generation import GenerationConfig

GENERATION_CONFIG = "generation_config.json"
_RANGES = (
    ("max_new_tokens", Integral, lambda value: value >= 1, "at least 1"),
    ("min_new_tokens", Integral, lambda value: value >= 0, "at least 0"),
    ("temperature", Real, lambda value: value >= 0, "at least 0 (0 takes the likeliest token)"),
    ("top_k", Integral, lambda value: value >= 0, "at least 0 (0 for no limit)"),
    ("top_p", Real, lambda value: 0 < value <= 1, "over 0 and at most 1"),
    ("repetition_penalty", Real, lambda value: value > 0, "over 0"),
    ("num_beams", Integral, lambda value: value >= 1, "at least 1"),
)
_STRATEGIES = {"greedy_search": (False, 1), "sampling": (True, 1), "beam_search": (False, None)}


@dataclass
class GenerationSettings:
    """Arguments of `generate`, with transformers' names and meanings.

    Attributes:
        max_new_tokens, min_new_tokens: bounds of the number of tokens added to the prompt.
        do_sample: draw by `temperature`, `top_k` (0 for no limit) and `top_p`; otherwise take the likeliest token.
        repetition_penalty: factor against every token of the prompt and the answer so far (1 for none).
        eos_token_ids: tokens that end a row.
        pad_token_id: fills finished rows.
        num_beams, length_penalty, early_stopping: beam search.
        seed: of the draws; None takes one from `paddle.seed`'s generator.
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    eos_token_ids: list[int] = field(default_factory=list)
    pad_token_id: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    seed: int | None = None

    def __post_init__(self):
        for name, kind, fits, expected in _RANGES:
            value = getattr(self, name)
            if not isinstance(value, kind) or not fits(value):
                raise GenerationError(f"{name} is {value!r}: it must be {expected}.")
        if self.min_new_tokens > self.max_new_tokens:
            raise GenerationError(
                f"min_new_tokens is {self.min_new_tokens}: it must be at most max_new_tokens, {self.max_new_tokens}."
            )
        if self.num_beams > 1 and self.do_sample:
            raise GenerationError("do_sample and num_beams over 1 exclude each other: choose one.")
        if not self.do_sample:
            self.temperature = 0.0

    @classmethod
    def resolve(cls, defaults, config, given: dict) -> GenerationSettings:
        """Settings from the call's arguments, else from `generation_config.json`, else from the model's config.

        Args:
            defaults: the host's `GenerationConfig`; where its `max_new_tokens` is None, 128 it is.
            config: the model's config.
            given: the call's keyword arguments; those that are settings are taken out of it.

        Raises:
            GenerationError: a value that cannot be carried out.
        """
        values = {f.name: getattr(defaults, f.name) for f in fields(cls) if getattr(defaults, f.name, None) is not None}
        strategy = getattr(defaults, "decode_strategy", None)
        values["do_sample"] = values.get("do_sample", strategy == "sampling")
        values["num_beams"] = values["num_beams"] if strategy == "beam_search" else 1
        _take_host_spelling(given, values)
        values.update({f.name: given.pop(f.name) for f in fields(cls) if given.get(f.name) is not None})
        eos = _first(given.pop("eos_token_id", None), getattr(defaults, "eos_token_id", None), config.eos_token_id, [])
        values["eos_token_ids"] = [int(token) for token in (eos if isinstance(eos, list | tuple) else [eos])]
        values["pad_token_id"] = int(
            _first(
                given.pop("pad_token_id", None),
                values.get("pad_token_id"),
                config.pad_token_id,
                (values["eos_token_ids"] or [0])[0],
            )
        )
        return cls(**values)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises GenerationError for end or pad tokens that the model has no row for."""
        for name, tokens in (("eos_token_id", self.eos_token_ids), ("pad_token_id", [self.pad_token_id])):
            for token in tokens:
                if not 0 <= token < vocab_size:
                    raise GenerationError(
                        f"{name} is {token} but the model knows tokens 0 to {vocab_size - 1}: give one of these, here or in "
                        f"{GENERATION_CONFIG}."
                    )


def check_leftovers(left: dict, inputs: Iterable[str]) -> None:
    """A misspelt setting must not be lost in silence. What asks for nothing passes: None, False, and the host's own defaults.

    Args:
        left: the arguments of a call of `generate` that are no settings.
        inputs: names that the model or the grounding knows.

    Raises:
        GenerationError: an argument that nobody knows.
    """
    from paddlenlp.generation import GenerationConfig

    nothing, known = vars(GenerationConfig()), [f.name for f in fields(GenerationSettings)]
    for name in left.keys() - set(inputs):
        value = left[name]
        if value is None or value is False or (name in nothing and nothing[name] == value):
            continue
        near = get_close_matches(name, [*known, *inputs], 1) or ["max_new_tokens"]
        raise GenerationError(
            f"generate knows no argument {name!r} (did you mean {near[0]!r}?): settings are {', '.join(known)}; "
            f"everything else is what the processor returned."
        )


def read_generation_config(folder: str | os.PathLike) -> GenerationConfig:
    """The host's object of a folder's generation_config.json, its `max_new_tokens` None where the file does not say."""
    from paddlenlp.generation import GenerationConfig

    path = Path(folder) / GENERATION_CONFIG
    config = GenerationConfig.from_pretrained(str(folder))
    config.max_new_tokens = json.loads(path.read_text(encoding="utf-8")).get("max_new_tokens")
    return config


def write_generation_config(config: GenerationConfig, folder: str | os.PathLike) -> None:
    """Write generation_config.json, odd values too, which the host's `save_pretrained` refuses."""
    values = config.to_diff_dict()
    values["max_new_tokens"] = config.max_new_tokens
    path = Path(folder) / GENERATION_CONFIG
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(
        json.dumps({name: value for name, value in values.items() if value is not None}, indent=2), encoding="utf-8"
    )
    temporary.rename(path)


def _take_host_spelling(given: dict, values: dict) -> None:
    """PaddleNLP's names for the same things: `decode_strategy`, `max_length`, `min_length`."""
    strategy = given.pop("decode_strategy", None)
    if strategy is not None:
        if strategy not in _STRATEGIES:
            raise GenerationError(f"decode_strategy is {strategy!r}: it must be one of {', '.join(_STRATEGIES)}.")
        values["do_sample"], beams = _STRATEGIES[strategy]
        values["num_beams"] = beams or max(2, given.get("num_beams") or 4)
    for host, ours in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        length = given.pop(host, None)
        if length is not None:
            given.setdefault(ours, length)


def _first(*values):
    return next(value for value in values if value is not None)
