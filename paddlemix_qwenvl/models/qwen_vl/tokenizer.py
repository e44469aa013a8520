"""The tokenizer of Qwen-VL: Qwen's byte-level BPE on `tiktoken`, through PaddleNLP, with tags for pictures and boxes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from paddlenlp.transformers.qwen.tokenizer import ENDOFTEXT, QWenTokenizer
from PIL import Image

from paddlemix_qwenvl.errors import GroundingError, PromptError
from paddlemix_qwenvl.grounding import Item, draw, parse
from paddlemix_qwenvl.media import load_image

IMAGE_TAGS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>")
IMAGE_SPAN = 256  # tokens between <img> and </img>
_POINT = r"\s*\(?\s*-?\d+(?:\.\d+)?\s*,\s*-?\d+(?:\.\d+)?\s*\)?\s*"
_SHAPES = {"box": re.compile(rf"{_POINT},{_POINT}"), "quad": re.compile(rf"{_POINT}(?:,{_POINT}){{3}}")}
_EXPECTED = {"box": "(x1,y1),(x2,y2)", "quad": "(x1,y1),(x2,y2),(x3,y3),(x4,y4)"}

_KINDS = {"img": "image", "ref": "ref", "box": "box", "quad": "quad"}

History = list[tuple[str, str]]


class QWenVLTokenizer(QWenTokenizer):
    """Text, and in it `<img>path or address</img>`, `<ref>words</ref>`, `<box>(x1,y1),(x2,y2)</box>` and `<quad>`.

    A picture takes `IMAGE_SPAN` tokens between its tags: the bytes of its path, an id a byte, then `<imgpad>`.

    Source: tokenization_qwen.py of Qwen/Qwen-VL-Chat.
    """

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012  (the host's own name and type)

    def __init__(self, vocab_file: str, errors: str = "replace", padding_side: str = "left", **kwargs):
        super().__init__(vocab_file, errors=errors, padding_side=padding_side, **kwargs)
        self._update_tiktoken(list(IMAGE_TAGS), special_tokens=True)
        for tag in _KINDS:
            setattr(self, f"{tag}_start_id", self.special_tokens[f"<{tag}>"])
            setattr(self, f"{tag}_end_id", self.special_tokens[f"</{tag}>"])
        self.img_pad_id = self.special_tokens["<imgpad>"]
        self.pad_token = self.eos_token = ENDOFTEXT

    def tokenize(
        self,
        text: str,
        allowed_special: Collection[str] | str = "all",
        disallowed_special: Collection[str] | str = (),
        **kwargs,
    ) -> list[bytes | str]:
        """Tokens of a text: bytes, and special tokens as text; arguments as in `ids`."""
        return [self.decoder[i] for i in self.ids(text, allowed_special, disallowed_special)]

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
            PromptError: a disallowed token, an `<img>` that is not closed, tags in it, or a path of over `IMAGE_SPAN` bytes.
        """
        if allowed_special != "all":
            allowed_special = set(allowed_special)
        try:
            ids = self.tokenizer.encode(
                unicodedata.normalize("NFC", text),
                allowed_special=allowed_special,
                disallowed_special=disallowed_special,
            )
        except ValueError as error:
            raise PromptError(f"the text spells out a special token that is not allowed in it: {error}") from error
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

    def _decode(self, token_ids, skip_special_tokens: bool = False, errors: str | None = None, **kwargs) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else [int(i) for i in token_ids]
        ids = self._replace_tagged(ids, {self.img_start_id: self.img_end_id}, self._path, lambda plain: plain, False)
        ids = [i for i in ids if i in self.decoder]  # the embedding has more rows than there are tokens
        return super()._decode(ids, skip_special_tokens, errors)

    def from_list_format(self, elements: list[dict]) -> str:
        """Text of `[{"image": path}, {"text": words}, {"ref": words, "box": [[x1, y1, x2, y2], ...]}, ...]`, pictures numbered.

        Raises:
            PromptError: an element of another kind, or a box that is not four numbers.
        """
        text, pictures = "", 0
        for element in elements:
            if "image" in element:
                pictures += 1
                text += f"Picture {pictures}:<img>{element['image']}</img>\n"
            elif "text" in element:
                text += element["text"]
            elif "box" in element:
                text += f"<ref>{element['ref']}</ref>" if "ref" in element else ""
                text += "".join(map(_box_text, element["box"]))
            else:
                raise PromptError(
                    f"{element!r} is none of the elements known: give 'image', 'text', or 'box' with or without 'ref'."
                )
        return text

    def to_list_format(self, text: str) -> list[dict]:
        """The parts of a text in order: `{"image": ...}`, `{"ref": ...}`, `{"box": ...}`, `{"quad": ...}`, `{"text": ...}`.

        Raises:
            PromptError: a tag that is not closed.
        """
        kinds = {self.special_tokens[f"<{tag}>"]: kind for tag, kind in _KINDS.items()}
        tags = {start: start + 1 for start in kinds}
        ids = self.tokenizer.encode(
            unicodedata.normalize("NFC", text), allowed_special={*IMAGE_TAGS, ENDOFTEXT}, disallowed_special=()
        )

        def words(ids):
            return b"".join(t if isinstance(t, bytes) else t.encode() for t in map(self.decoder.get, ids)).decode()

        return self._replace_tagged(
            ids,
            tags,
            lambda tagged: [{kinds[tagged[0]]: words(tagged[1:-1])}],
            lambda plain: [{"text": words(plain)}] if plain else [],
        )

    def latest_picture(self, response: str, history: History | None = None) -> str | None:
        """Path or address of the picture shown last in a conversation, None if there is none."""
        for query, _ in [*(history or []), (response, None)][::-1]:
            for part in self.to_list_format(query)[::-1]:
                if "image" in part:
                    return part["image"]
        return None

    def boxes(self, response: str, size: tuple[int, int]) -> list[Item]:
        """What a response points at, in the pixels of a picture of `size` (width, height), in order and within it.

        Raises:
            GroundingError: a box that is not four numbers, or a quad that is not eight.
            PromptError: a tag that is not closed.
        """
        for part in self.to_list_format(response):
            for kind, shape in _SHAPES.items():
                if kind in part and not shape.fullmatch(part[kind]):
                    raise GroundingError(f"<{kind}>{part[kind]}</{kind}> is no {kind}: expected {_EXPECTED[kind]}.")
        return parse(response, [size], [size])

    def draw_bbox_on_latest_picture(self, response: str, history: History | None = None) -> Image.Image | None:
        """The picture shown last in a conversation with the boxes of `response` and their labels; None without picture or boxes.

        Raises:
            GroundingError, PromptError: as in `boxes`.
            MediaError: the picture cannot be read.
        """
        source = self.latest_picture(response, history)
        if source is None:
            return None
        picture = load_image(source)
        items = self.boxes(response, picture.size)
        return draw(picture, items) if items else None


def _box_text(box) -> str:
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(isinstance(n, int | float) for n in box):
        raise PromptError(f"{box!r} is no box: give four numbers, x1, y1, x2, y2, from 0 to 999.")
    return "<box>({:d},{:d}),({:d},{:d})</box>".format(*map(int, box))
