"""Tags for pictures and boxes in Qwen-VL's text. Needs no Paddle."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Collection
from numbers import Real

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.models.call_options import check_text

IMAGE_TAGS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>")
IMAGE_SPAN = 256  # tokens between <img> and </img>
KINDS = {"img": "image", "ref": "ref", "box": "box", "quad": "quad"}

History = list[tuple[str, str]]


class TaggedText:
    """Base of tokenizers on `tiktoken` that know the tags.

    A subclass has `tokenizer` (a `tiktoken.Encoding`), `decoder` (id -> bytes, or text of a special token), `special_tokens`
    (text -> id) and `eod_id`, the first special token's id.

    Source: tokenization_qwen.py of Qwen/Qwen-VL-Chat.
    """

    def name_tags(self) -> None:
        """`img_start_id`, `img_end_id`, ... and `img_pad_id` from `special_tokens`."""
        for tag in KINDS:
            setattr(self, f"{tag}_start_id", self.special_tokens[f"<{tag}>"])
            setattr(self, f"{tag}_end_id", self.special_tokens[f"</{tag}>"])
        self.img_pad_id = self.special_tokens["<imgpad>"]

    def ids(
        self,
        text: str,
        allowed_special: Collection[str] | str = "all",
        disallowed_special: Collection[str] | str = (),
    ) -> list[int]:
        """Ids of a text, composed (NFC) first.

        Args:
            allowed_special: special tokens that count as such where the text spells them out, or "all"; others are plain words.
            disallowed_special: special tokens that must not be in the text, or "all" that are not allowed.

        Raises:
            PromptError: no text, a disallowed token, a run of some 1 000 000 spaces, an `<img>` that is not closed, tags in it, or
                a path of over `IMAGE_SPAN` bytes.
        """
        if not isinstance(text, str):
            raise PromptError(f"the text is {text!r}: give words; tokenizer.from_list_format makes them of a list.")
        check_text(text)
        if allowed_special != "all":
            allowed_special = set(allowed_special)
        try:
            ids = self.tokenizer.encode(
                unicodedata.normalize("NFC", text),
                allowed_special=allowed_special,
                disallowed_special=disallowed_special,
            )
        except ValueError as error:
            raise PromptError(f"the text cannot be encoded: {error}") from error
        return self.with_slots(ids)

    def with_slots(self, ids: list[int]) -> list[int]:
        """`ids` with a slot for each `<img>` words `</img>`; raises PromptError as `ids`."""
        return self._replace_tagged(ids, {self.img_start_id: self.img_end_id}, self._slot, lambda plain: plain)

    def _slot(self, ids: list[int]) -> list[int]:
        """`<img>` words `</img>` as a slot."""
        if any(i >= self.eod_id for i in ids[1:-1]):
            raise PromptError("there is a tag between <img> and </img>: a path or an address alone stands there.")
        path = b"".join(self.decoder[i] for i in ids[1:-1])
        if len(path) > IMAGE_SPAN:
            raise PromptError(
                f"the path or address between <img> and </img> has {len(path)} bytes, at most {IMAGE_SPAN} fit: "
                f"give a shorter one ({path[:60].decode(errors='replace')}...)."
            )
        return [ids[0], *path, *[self.img_pad_id] * (IMAGE_SPAN - len(path)), ids[-1]]

    def _path(self, ids: list[int]) -> list[int]:
        """A slot as `<img>` words `</img>`; anything else is left as it is."""
        end = ids.index(self.img_pad_id) if self.img_pad_id in ids else len(ids) - 1
        if any(i > 255 for i in ids[1:end]):
            return ids
        words = self.tokenizer.encode(bytes(ids[1:end]).decode("utf-8", errors="replace"), disallowed_special=())
        return [ids[0], *words, ids[-1]]

    def _replace_tagged(self, ids: list[int], tags: dict[int, int], inside, outside, strict: bool = True) -> list:
        """`ids` with `inside` applied to what stands from an opening tag to its closing one, `outside` to the rest.

        Raises:
            PromptError: a tag is not closed (only if `strict`).
        """
        found, at = [], 0
        while (start := next((i for i in range(at, len(ids)) if ids[i] in tags), -1)) >= 0:
            try:
                stop = ids.index(tags[ids[start]], start) + 1
            except ValueError:
                if not strict:
                    break
                name = self.decoder[ids[start]]
                raise PromptError(f"{name} is not closed: put </{name[1:]} after it.") from None
            found += outside(ids[at:start])
            found += inside(ids[start:stop])
            at = stop
        return found + list(outside(ids[at:]))

    def plain_ids(self, token_ids) -> list[int]:
        """Ids to decode: slots as the words they stand for, without ids that are no token (the embedding has more rows)."""
        ids = [token_ids] if isinstance(token_ids, int) else [int(i) for i in token_ids]
        ids = self._replace_tagged(ids, {self.img_start_id: self.img_end_id}, self._path, lambda plain: plain, False)
        return [i for i in ids if i in self.decoder]

    def from_list_format(self, elements: list[dict]) -> str:
        """Text of `[{"image": path}, {"text": words}, {"ref": words, "box": [[x1, y1, x2, y2], ...]}, ...]`, pictures numbered.

        Raises:
            PromptError: an element of another kind, or a box that is not four numbers.
        """
        if not isinstance(elements, list | tuple):
            raise PromptError(
                f"{elements!r:.200} is no list of elements such as {{'image': path}} and {{'text': words}}."
            )
        text, pictures = "", 0
        for element in elements:
            match element:
                case {"image": str() | os.PathLike() as path}:
                    pictures += 1
                    text += f"Picture {pictures}:<img>{path}</img>\n"
                case {"text": str() as words}:
                    text += words
                case {"ref": str() as words, "box": list() | tuple() as boxes}:
                    text += f"<ref>{words}</ref>" + "".join(map(_box_text, boxes))
                case {"box": list() | tuple() as boxes}:
                    text += "".join(map(_box_text, boxes))
                case _:
                    raise PromptError(
                        f"{element!r} is none of the elements known: give 'image' with a path or an address, 'text', or 'box' "
                        f"with a list of boxes, with or without 'ref'."
                    )
        return text


def _box_text(box) -> str:
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(map(_is_number, box)):
        raise PromptError(f"{box!r} is no box: give four numbers, x1, y1, x2, y2, from 0 to 999.")
    return "<box>({:d},{:d}),({:d},{:d})</box>".format(*map(int, box))


def _is_number(value) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
