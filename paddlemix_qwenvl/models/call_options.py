"""Keyword arguments of processors' and tokenizers' calls: which are known, of what kind, and whose they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from paddlemix_qwenvl.errors import ConfigurationError, PromptError
from paddlemix_qwenvl.fields import Flag, Whole, checked, shown, wrong
from paddlemix_qwenvl.models.tokenizer_settings import Side

LOADING = ("use_fast", "trust_remote_code", "backend")
"""What transformers' `from_pretrained` takes and nothing here depends on."""

Tokens = Annotated[int, Field(strict=True, ge=1, le=2**24)]


@dataclass(kw_only=True)
class TextOptions:
    """What a tokenizer's call takes beside its text."""

    padding: Flag | Literal["longest", "max_length", "do_not_pad"] = False
    truncation: Flag | Literal["longest_first", "only_first", "do_not_truncate"] = False
    max_length: Tokens | None = None
    stride: Whole = 0
    pad_to_multiple_of: Tokens | None = None
    padding_side: Side | None = None
    add_special_tokens: Flag = True
    return_attention_mask: Flag | None = None
    return_token_type_ids: Flag | None = None
    return_position_ids: Flag | None = None
    return_special_tokens_mask: Flag = False
    return_offsets_mapping: Flag = False
    return_length: Flag = False
    return_tensors: Literal["pd", "np"] | None = None
    verbose: Flag = True


TEXT = tuple(f.name for f in fields(TextOptions))


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raises ConfigurationError for a name that `what` does not know: a misspelt one must not be lost in silence."""
    known = tuple(dict.fromkeys(known))
    for name in given:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigurationError(f"{name!r} is no setting of {what}{hint}: choose from {', '.join(known)}.")


def check_text(text) -> None:
    """Raises PromptError unless it is a text that UTF-8 can write, or a list of such texts."""
    if isinstance(text, list | tuple):
        for one in text:
            check_text(one)
    elif not isinstance(text, str):
        raise PromptError(f"text is {text!r:.200}: give a text, or a list of texts.")
    else:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptError(f"text is {text!r:.200}, which UTF-8 cannot write: {error}.") from error


def texts_of(text: Any) -> list[str]:
    """The prompts of a call, which may be one alone. Raises PromptError for what is none, or has none."""
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(one, str) for one in texts):
        raise PromptError(f"text is {texts!r:.200}: give one prompt or a list of them, as apply_chat_template does.")
    check_text(texts)
    return list(texts)


def check_text_options(options: Mapping[str, Any], source: str) -> None:
    """Raises ConfigurationError for values that cannot be; names are not looked at."""
    found = checked(TextOptions, options, source)
    if found.stride >= (found.max_length or found.stride + 1):
        raise wrong(source, "stride", found.stride, f"less than max_length, {found.max_length}")


def plain_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options without what is None, NumPy's numbers as Python's."""
    options = {name: value for name, value in given.items() if value is not None}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}


def split_options(given: Mapping[str, Any], groups: Mapping[str, Collection[str]], what: str) -> dict[str, dict]:
    """The options of each group, as transformers' processors sort them.

    Args:
        given: options by name, which every group gets that knows them; dicts of options by a group's own name
            (`images_kwargs={...}`); and "common_kwargs", which the others go before.
        groups: names that each group knows.

    Raises:
        ConfigurationError: a name that no group knows, or one that is given twice.
    """
    flat = plain_options(given)
    nested = {name: _nested(name, flat.pop(name, {})) for name in (*groups, "common_kwargs")}
    everything = [name for names in groups.values() for name in names]
    check_names(flat, [*everything, *nested], what)
    for group, options in nested.items():
        check_names(options, groups.get(group, everything), f"{what}'s {group}")
        if twice := group in groups and options.keys() & flat.keys():
            raise ConfigurationError(f"{min(twice)!r} is given twice, alone and in {group}: give it once.")
    common = nested.pop("common_kwargs")
    return {
        group: {name: value for name, value in {**common, **flat, **options}.items() if name in groups[group]}
        for group, options in nested.items()
    }


def _nested(group: str, options: Any) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"{group} is {shown(options)}, expected a dict of options.")
    return plain_options(options)
