"""Prompts: ChatML for Qwen-VL-Chat, the bare words for Qwen-VL."""

from __future__ import annotations

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.models.qwen_vl.tags import IMAGE_TAGS, History, TaggedText

SYSTEM = "You are a helpful assistant."
MAX_WINDOW_SIZE = 6144


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
    """The pictures and words of a conversation for `from_list_format`; a picture that has no path is called by its number."""
    pictures, parts = 0, []
    for message in conversation:
        content = message["content"]
        for part in [{"text": content}] if isinstance(content, str) else content:
            if "image" in part:
                pictures += 1
                part = {"image": part["image"] if isinstance(part["image"], str) else str(pictures)}
            parts.append(part)
    return parts


def render_messages(conversation: list[dict], add_generation_prompt: bool = False) -> str:
    """Messages in the Hub's format as ChatML text, pictures numbered; one that has no path is called by its number.

    Raises:
        PromptError: a part that is neither a picture nor text.
    """
    pictures, text = 0, ""
    if not conversation or conversation[0]["role"] != "system":
        conversation = [{"role": "system", "content": SYSTEM}, *conversation]
    for message in conversation:
        content = message["content"]
        words = content if isinstance(content, str) else ""
        for part in [] if isinstance(content, str) else content:
            if "image" in part:
                pictures += 1
                name = part["image"] if isinstance(part["image"], str) else str(pictures)
                words += f"Picture {pictures}:<img>{name}</img>\n"
            elif "text" in part:
                words += part["text"]
            else:
                raise PromptError(f"{part!r} is neither a picture nor text: give 'image' or 'text'.")
        text += f"<|im_start|>{message['role']}\n{words}<|im_end|>\n"
    return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")
