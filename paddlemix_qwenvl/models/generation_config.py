"""generation_config.json: what a model's answers are made with where nobody says else."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from paddlemix_qwenvl.fields import Count, Flag, Number, Text, Whole, checked, optional_fields, read_object
from paddlemix_qwenvl.files import write_json

GENERATION_CONFIG = "generation_config.json"


@dataclass
class GenerationFields:
    """What a call of `generate` or a generation_config.json may ask for, None where it does not; PaddleNLP's names among them."""

    max_new_tokens: Count | None = None
    min_new_tokens: Whole | None = None
    do_sample: Flag | None = None
    temperature: Annotated[float, Field(strict=True, ge=0, le=1e6)] | None = None
    top_k: Whole | None = None
    top_p: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(strict=True, ge=1e-3, le=1e3)] | None = None
    presence_penalty: Annotated[float, Field(strict=True, ge=-100, le=100)] | None = None
    frequency_penalty: Annotated[float, Field(strict=True, ge=-100, le=100)] | None = None
    logit_bias: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(strict=True, ge=-100, le=100)]] | None = None
    eos_token_id: Whole | list[Whole] | None = None
    pad_token_id: Whole | None = None
    num_return_sequences: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    prompt_lookup_num_tokens: Whole | None = None
    num_beams: Annotated[int, Field(strict=True, ge=1, le=100)] | None = None
    length_penalty: Annotated[float, Field(strict=True, ge=-100, le=100)] | None = None
    early_stopping: Flag | None = None
    seed: Annotated[int, Field(strict=True, ge=0)] | None = None
    decode_strategy: Literal["greedy_search", "sampling", "beam_search"] | None = None
    max_length: Count | None = None
    min_length: Whole | None = None

    def given(self) -> dict[str, Any]:
        """Those that are asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None}


_OfPaddleNLP = optional_fields(
    "_OfPaddleNLP",
    (Whole, "max_length bos_token_id decoder_start_token_id forced_bos_token_id no_repeat_ngram_size"),
    (Whole | list[Whole], "forced_eos_token_id"),
    (Annotated[int, Field(strict=True, ge=1, le=1)], "num_beam_groups"),
    (Number, "diversity_rate"),
    (Flag, "trunc_input use_cache use_fast use_fp16_decoding fast_ptq_sampling"),
    (Text, "chat_format paddlenlp_version transformers_version"),
    (Count, "max_window_size"),
)


@dataclass
class GenerationFile(_OfPaddleNLP, GenerationFields):
    """What a generation_config.json may hold besides: what PaddleNLP's `GenerationConfig` takes out of it."""


class GenerationConfig:
    """The content of a generation_config.json as attributes; the four that follow are None where it does not say, and what
    has the name of something else of this class is left out."""

    def __init__(self, /, **values: Any):
        self.max_new_tokens = self.bos_token_id = self.eos_token_id = self.pad_token_id = None
        vars(self).update({name: value for name, value in values.items() if name not in dir(type(self))})

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved."""
        return {name: value for name, value in vars(self).items() if value is not None}


def read_generation_file(path: str | os.PathLike) -> dict[str, Any]:
    """What a generation_config.json says; keys that nobody knows are left as they are.

    Raises:
        ConfigurationError: a file that is no JSON object, or a value that cannot be.
    """
    content = read_object(path)
    checked(GenerationFile, content, path)
    return {name: value for name, value in content.items() if value is not None}


def write_generation_config(config, folder: str | os.PathLike) -> None:
    """Write generation_config.json, odd values too, of our `GenerationConfig` or a host's."""
    values = {**config.to_diff_dict(), "max_new_tokens": config.max_new_tokens}
    write_json(Path(folder) / GENERATION_CONFIG, {name: value for name, value in values.items() if value is not None})
