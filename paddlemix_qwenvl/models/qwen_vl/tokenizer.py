"""The tokenizer of Qwen-VL: Qwen's byte-level BPE on `tiktoken`, through PaddleNLP, with tags for pictures and boxes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from pathlib import Path

from paddlenlp.transformers.qwen.tokenizer import QWenTokenizer
from PIL import Image

from paddlemix_qwenvl.errors import GroundingError
from paddlemix_qwenvl.grounding import Item, draw, parse
from paddlemix_qwenvl.grounding.text import half_width
from paddlemix_qwenvl.media import load_image
from paddlemix_qwenvl.models.host_side import PortableTokenizer
from paddlemix_qwenvl.models.qwen_vl.ranks import RANKS, read_ranks
from paddlemix_qwenvl.models.qwen_vl.tags import IMAGE_TAGS, KINDS, History, TaggedText
from paddlemix_qwenvl.models.tokenizer_settings import CONFIG, END, TokenizerSettings

_OWN = ("model_max_length", "padding_side", "truncation_side", "errors")
_IMAGE = re.compile(r"<img>(.*?)</img>", re.DOTALL)
_SHAPE = re.compile(r"<(box|quad)>((?:(?!</?(?:ref|box|quad)>).)*)</\1>", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_EXPECTED = {"box": (4, "(x1,y1),(x2,y2)"), "quad": (8, "(x1,y1),(x2,y2),(x3,y3),(x4,y4)")}


class QWenVLTokenizer(TaggedText, PortableTokenizer, QWenTokenizer):
    """Text, and in it `<img>path or address</img>`, `<ref>words</ref>`, `<box>(x1,y1),(x2,y2)</box>` and `<quad>`.

    A picture takes `IMAGE_SPAN` tokens between its tags: the bytes of its path, an id a byte, then `<imgpad>`.

    Source: tokenization_qwen.py of Qwen/Qwen-VL-Chat.
    """

    files = (RANKS, CONFIG)
    saved_as = {"tokenizer_class": "QWenVLTokenizer"}  # noqa: RUF012  (by which the registry knows a folder without config.json)
    options = (
        *(name for name in PortableTokenizer.options if name != "return_offsets_mapping"),
        "allowed_special",
        "disallowed_special",
    )
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012  (the host's own name and type)

    def __init__(self, vocab_file: str, errors: str = "replace", padding_side: str = "left", **kwargs):
        read_ranks(Path(vocab_file))  # which says what is wrong with them
        super().__init__(vocab_file, errors=errors, padding_side=padding_side, **kwargs)
        self._update_tiktoken(list(IMAGE_TAGS), special_tokens=True)
        self.name_tags()
        self.pad_token = self.eos_token = END

    @classmethod
    def _of_folder(cls, folder: Path, settings: TokenizerSettings):
        given = cls._host_settings(settings)
        return cls(str(folder / RANKS), **{name: given[name] for name in _OWN if name in given})

    def tokenize(
        self,
        text: str,
        allowed_special: Collection[str] | str = "all",
        disallowed_special: Collection[str] | str = (),
        **kwargs,
    ) -> list[bytes | str]:
        """Tokens of a text: bytes, and special tokens as text; arguments as in `ids`."""
        return [self.decoder[i] for i in self.ids(text, allowed_special, disallowed_special)]

    def _decode(self, token_ids, skip_special_tokens: bool = False, errors: str | None = None, **kwargs) -> str:
        return super()._decode(self.plain_ids(token_ids), skip_special_tokens, errors)

    def to_list_format(self, text: str) -> list[dict]:
        """The parts of a text in order: `{"image": ...}`, `{"ref": ...}`, `{"box": ...}`, `{"quad": ...}`, `{"text": ...}`.

        Raises:
            PromptError: a tag that is not closed.
        """
        kinds = {self.special_tokens[f"<{tag}>"]: kind for tag, kind in KINDS.items()}
        tags = {start: start + 1 for start in kinds}
        ids = self.tokenizer.encode(
            unicodedata.normalize("NFC", text), allowed_special={*IMAGE_TAGS, END}, disallowed_special=()
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
        text = "".join(query for query, _ in history or []) + response
        return next(iter(_IMAGE.findall(unicodedata.normalize("NFC", text))[::-1]), None)

    def boxes(self, response: str, size: tuple[int, int]) -> list[Item]:
        """What a response points at, in the pixels of a picture of `size` (width, height), in order and within it.

        Of a response that is cut off, what is whole.

        Raises:
            GroundingError: a box that is not four numbers, or a quad that is not eight.
        """
        for kind, body in _SHAPE.findall(response):
            rest, count = _NUMBER.subn("", half_width(body))
            numbers, form = _EXPECTED[kind]
            if count != numbers or rest.strip(" \n()[],"):
                raise GroundingError(f"<{kind}>{body}</{kind}> is no {kind}: expected {form}.")
        return parse(unicodedata.normalize("NFC", response), [size], [size])

    def draw_bbox_on_latest_picture(self, response: str, history: History | None = None) -> Image.Image | None:
        """The picture shown last in a conversation with the boxes of `response` and their labels; None without picture or boxes.

        Raises:
            GroundingError: as in `boxes`.
            MediaError: the picture cannot be read.
        """
        source = self.latest_picture(response, history)
        if source is None:
            return None
        picture = load_image(source)
        items = self.boxes(response, picture.size)
        return draw(picture, items) if items else None
