"""What the processors of all families share. Needs neither Paddle nor a host."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from paddlemix_qwenvl.files import folder_to_save, write_json
from paddlemix_qwenvl.media import ContentCache, process_vision_info
from paddlemix_qwenvl.models.batch import BatchFeature

PREPROCESSOR = "preprocessor_config.json"


class ImageProcessor:
    """Base of image processors, whose attributes are their settings. A subclass has `preprocess`."""

    def __call__(self, *media, **options) -> BatchFeature:
        return self.preprocess(*media, **options)

    def preprocess(self, *media, **options) -> BatchFeature:
        """Pictures, and videos where there are any, as arrays."""
        raise NotImplementedError

    def to_dict(self) -> dict:
        """What is saved."""
        return {**vars(self), "image_processor_type": type(self).__name__}

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Write preprocessor_config.json."""
        write_json(folder_to_save(save_directory) / PREPROCESSOR, self.to_dict())


class Processor:
    """Base of processors.

    Attributes:
        attributes: names of its parts, which are saved with it.
        parts: the classes of these that it loads, of ours or of a host's kind.
    """

    attributes: list[str]
    parts: dict[str, type]

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Write the files of its parts."""
        folder = folder_to_save(save_directory)
        for name in self.attributes:
            getattr(self, name).save_pretrained(str(folder))

    def batch_decode(self, token_ids, skip_special_tokens: bool = False, **options) -> list[str]:
        """Texts of a batch of ids `[B, new]`; also of `generate`'s whole return value."""
        ids = token_ids[0] if isinstance(token_ids, tuple) else token_ids
        return [self.decode(row, skip_special_tokens, **options) for row in ids]

    def decode(self, token_ids, skip_special_tokens: bool = False, **options) -> str:
        """Text of one row of ids, or of the first row of several."""
        ids = np.asarray(token_ids)
        ids = ids.reshape([-1, ids.shape[-1]])[0].tolist() if ids.ndim else [int(ids)]
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, **options)

    stop_token_ids: list[int] | None = None
    """What ends an answer, where the model's generation config does not tell."""

    def fetch_media(self, conversations, cache: ContentCache | None = None) -> tuple[list | None, list | None]:
        """Images and videos of messages, in the order of their placeholders, as the call takes them.

        Raises:
            PromptError, MediaError: as `process_vision_info`.
        """
        return process_vision_info(conversations, cache=cache)

    answer_tokens: tuple[str, ...] = ()
    """Special tokens that belong to an answer: the tags of boxes, of models that write such."""

    grid: tuple[int, int] | None = None
    """(width, height) of what coordinates outside of tags count on; None for the resized picture."""

    def escape(self, text: str) -> str:
        """Words of a stranger for a prompt, in which special tokens are plain text; the tags of boxes alone are read."""
        return self.tokenizer.escape(text, self.answer_tokens)

    def answer_text(self, token_ids: list[int]) -> str:
        """One answer, or a part of it, as a user reads it and `grounding` takes it: without other special tokens."""
        if not self.answer_tokens:
            return self.tokenizer.decode(token_ids, skip_special_tokens=True)
        dropped = {*self.tokenizer.all_special_ids} - {*self.tokenizer.convert_tokens_to_ids([*self.answer_tokens])}
        return self.tokenizer.decode([i for i in token_ids if i not in dropped], skip_special_tokens=False)

    def post_process(self, token_ids) -> list[str]:
        """The answers of a batch of ids `[B, new]`, or of `generate`'s whole return value, outer spaces stripped."""
        ids = token_ids[0] if isinstance(token_ids, tuple) else token_ids
        return [self.answer_text(np.asarray(row).tolist()).strip() for row in ids]


class AnswerDecoder:
    """A processor's `answer_text` where a tokenizer is wanted, for streaming.

    Args:
        stop: stop strings; the text that they are looked for in has the special tokens that they name.
    """

    def __init__(self, processor: Processor, stop: Sequence[str] = ()):
        self._processor, tokenizer = processor, processor.tokenizer
        special = tokenizer.all_special_ids
        self._named = {i for i in special if any(tokenizer.decode([i]) in each for each in stop)}

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        """As `Processor.answer_text`, or for stop strings."""
        if skip_special_tokens or self._named.isdisjoint(token_ids):
            return self._processor.answer_text(token_ids)
        return self._processor.tokenizer.decode(token_ids)
