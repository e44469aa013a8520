"""What a model is tried on while it is quantised: conversations of a file, or pictures and texts of a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlemix_qwenvl.errors import ConfigurationError, MediaError, PromptError
from paddlemix_qwenvl.fields import read_text
from paddlemix_qwenvl.models.conversations import check_conversation, question_about
from paddlemix_qwenvl.models.prompts import Prompt
from paddlemix_qwenvl.quantization.source import Source

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TEXTS = (".txt", ".md")
LINES = (".jsonl", ".ndjson")
LONGEST_TEXT = 8192
LONGEST_ANSWER = 16
LARGEST_PICTURE = 512 * 28 * 28
QUESTION = "Describe this image."


@dataclass(frozen=True)
class Sample:
    """A prompt, and the tokens after which its answer's are told."""

    prompt: Prompt
    answering: slice


@dataclass(frozen=True)
class Calibration:
    """Conversations, each with its place for messages.

    Attributes:
        sha256: of the files that they were read from.
    """

    conversations: list[tuple[str, list[dict]]]
    sha256: str

    @classmethod
    def read(cls, path: str | Path) -> Calibration:
        """Conversations from a file, or from all files of a folder that are pictures, texts or files of conversations.

        A file has a conversation on each line, as JSON: messages as the commands take them, or an object with `messages`; what
        these name by a relative path lies beside the file. A picture is asked about, a text is what a user says.

        Raises:
            ConfigurationError: there is nothing there, or what is there cannot be read.
        """
        path = Path(path)
        if not path.exists():
            raise ConfigurationError(f"calibration is {path}, which is not there: {_WANTED}.")
        files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
        files = [file for file in files if file.suffix.lower() in (*PICTURES, *TEXTS, *LINES)]
        found = [each for file in files for each in _conversations(file)]
        if not found:
            raise ConfigurationError(f"calibration is {path}, which holds no conversation: {_WANTED}.")
        digest = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))
        return cls(found, digest.hexdigest())

    def samples(self, source: Source) -> list[Sample]:
        """What the model gets of them; pictures are made small.

        Raises:
            ConfigurationError: media or messages that cannot be used.
        """
        found = []
        for place, messages in self.conversations:
            try:
                found.append(_sample(source, messages))
            except (MediaError, PromptError) as error:
                raise ConfigurationError(f"calibration, {place}: {error}") from error
        return found


_WANTED = (
    'give a file of JSON lines, each {"messages": [...]}, or a folder with such files, pictures '
    f"({' '.join(PICTURES)}) or texts ({' '.join(TEXTS)})"
)


def _conversations(file: Path) -> Iterator[tuple[str, list[dict]]]:
    kind = file.suffix.lower()
    if kind in PICTURES:
        yield str(file), [question_about(QUESTION, [str(file)])]
    elif kind in TEXTS:
        if text := read_text(file).strip()[:LONGEST_TEXT]:
            yield str(file), [question_about(text)]
    else:
        for number, line in enumerate(read_text(file).splitlines(), 1):
            if line.strip():
                place = f"{file}, line {number}"
                yield place, _messages(line, place, file.parent)


def _messages(line: str, place: str, folder: Path) -> list[dict]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{place} cannot be read as JSON ({error}): {_WANTED}.") from error
    try:
        messages = check_conversation(found.get("messages") if isinstance(found, dict) else found)
    except PromptError as error:
        raise ConfigurationError(f"{place}: {error}") from error
    contents = [message.get("content") for message in messages]
    for part in (part for parts in contents if isinstance(parts, list) for part in parts):
        name = part.get(part["type"])
        if part["type"] in ("image", "video") and isinstance(name, str) and ":" not in name[:8]:
            part[part["type"]] = str(folder / name)
    return messages


def _sample(source: Source, messages: list[dict]) -> Sample:
    processor, answer = source.processor, ""
    if messages[-1]["role"] == "assistant" and len(messages) > 1:
        asked = processor.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
        text = processor.apply_chat_template(messages, add_generation_prompt=False, tokenize=False)
        answer = text.removeprefix(asked)
    else:
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    images, videos = processor.fetch_media(messages)
    limits: dict[str, Any] = {}
    if (largest := getattr(processor.image_processor, "max_pixels", None)) and images:
        limits["max_pixels"] = min(largest, LARGEST_PICTURE)
    inputs = processor(text=[text], images=images, videos=videos, padding=True, return_tensors="np", **limits)
    (prompt,) = source.family.module("positions").prompts(source.config, inputs)
    count = len(processor.tokenizer.encode(answer)) if answer else 0
    first = max(len(prompt.token_ids) - 1 - count, 0)
    return Sample(prompt, slice(first, first + min(max(count, 1), LONGEST_ANSWER)))
