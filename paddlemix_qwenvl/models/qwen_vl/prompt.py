"""Prompts: ChatML for Qwen-VL-Chat, the bare words for Qwen-VL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.fields import checked, read_object
from paddlemix_qwenvl.models.conversations import check_conversation
from paddlemix_qwenvl.models.generation_config import GENERATION_CONFIG
from paddlemix_qwenvl.models.qwen_vl.tags import IMAGE_TAGS, History, TaggedText

SYSTEM = "You are a helpful assistant."
MAX_WINDOW_SIZE = 6144
CHATML = "chatml"


@dataclass(kw_only=True)
class _Format:
    chat_format: Literal["chatml", "raw"] = CHATML


def read_chat_format(folder: Path) -> str:
    """How conversations are written, by the folder's generation_config.json: `CHATML`, which it is without the file, or "raw".

    Raises:
        ConfigurationError: the file cannot be read, or says another.
    """
    path = folder / GENERATION_CONFIG
    return checked(_Format, read_object(path) if path.is_file() else {}, path).chat_format


def chat_ids(
    tokenizer: TaggedText, query: str, history: History, system: str, max_window_size: int = MAX_WINDOW_SIZE
) -> list[int]:
    """Ids of a conversation up to where the assistant speaks.

    Old turns are left out from the first one back that would bring the prompt, without the query, to `max_window_size` tokens.
    Of special tokens only `IMAGE_TAGS` count in what is said, so that nobody can forge a turn.

    Source: `make_context` of Qwen-VL-Chat's qwen_generation_utils.py.

    Raises:
        PromptError: as `tokenizer.ids`.
    """
    newline = tokenizer.ids("\n")

    def said(role: str, content: str) -> list[int]:
        words = tokenizer.ids(role) + newline + tokenizer.ids(content, allowed_special=IMAGE_TAGS)
        return [tokenizer.im_start_id, *words, tokenizer.im_end_id]

    start, turns = said("system", system), []
    for question, answer in reversed(history):
        turn = newline + said("user", question) + newline + said("assistant", answer)
        if len(start) + len(turn) + len(turns) >= max_window_size:
            break
        turns = turn + turns
    assistant = [tokenizer.im_start_id, *tokenizer.ids("assistant"), *newline]
    return start + turns + newline + said("user", query) + newline + assistant


def plain_parts(conversation: list[dict]) -> list[dict]:
    """The pictures and words of a conversation for `from_list_format`; a picture that has no path is called by its number.

    Raises:
        PromptError: as `check_conversation`, or a part that is neither a picture nor text.
    """
    return [part for _, parts in _turns(conversation) for part in parts]


def render_messages(conversation: list[dict], add_generation_prompt: bool = False) -> str:
    """Messages in the Hub's format as ChatML text, pictures numbered; one that has no path is called by its number.

    Raises:
        PromptError: as `plain_parts`.
    """
    pictures, text = 0, ""
    turns = _turns(conversation)
    if turns[0][0] != "system":
        turns = [("system", [{"text": SYSTEM}]), *turns]
    for role, parts in turns:
        words = ""
        for part in parts:
            pictures += "image" in part
            words += f"Picture {pictures}:<img>{part['image']}</img>\n" if "image" in part else part["text"]
        text += f"<|im_start|>{role}\n{words}<|im_end|>\n"
    return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")


def _turns(conversation: list[dict]) -> list[tuple[str, list[dict]]]:
    """Role and parts of each message, a part either `{"text": words}` or `{"image": path, address or number}`."""
    pictures, turns = 0, []
    for message in check_conversation(conversation):
        content, parts = message.get("content", ""), []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "image":
                pictures += 1
                name = part.get("image")
                parts.append({"image": name if isinstance(name, str) else str(pictures)})
            elif part["type"] == "text":
                parts.append({"text": part["text"]})
            else:
                raise PromptError(f"{part!r:.200} is neither a picture nor text: give 'image' or 'text'.")
        turns.append((message["role"], parts))
    return turns
