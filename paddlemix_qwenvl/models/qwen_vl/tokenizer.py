"""The tokenizer of Qwen-VL: Qwen's byte-level BPE on `tiktoken`, with tags for pictures and boxes."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from pathlib import Path

from PIL import Image

from paddlemix_qwenvl.errors import GroundingError
from paddlemix_qwenvl.grounding import Item, draw, parse
from paddlemix_qwenvl.grounding.text import half_width
from paddlemix_qwenvl.media import load_image
from paddlemix_qwenvl.models.qwen_vl.ranks import RANKS, SPECIAL, encoding_of, read_ranks, special_tokens, write_ranks
from paddlemix_qwenvl.models.qwen_vl.tags import IMAGE_TAGS, KINDS, History, TaggedText
from paddlemix_qwenvl.models.tokenizer import Tokenizer
from paddlemix_qwenvl.models.tokenizer_settings import CONFIG, END, TokenizerSettings

_IMAGE = re.compile(r"<img>(.*?)</img>", re.DOTALL)
_SHAPE = re.compile(r"<(box|quad)>((?:(?!</?(?:ref|box|quad)>).)*)</\1>", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_EXPECTED = {"box": (4, "(x1,y1),(x2,y2)"), "quad": (8, "(x1,y1),(x2,y2),(x3,y3),(x4,y4)")}


class QWenVLText(TaggedText):
    """What Qwen-VL's tokenizers read and draw, ours and the hosts'.

    Needs `tokenizer`, `decoder`, `special_tokens` and `eod_id`, as `TaggedText`.
    """

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


class QWenVLTokenizer(QWenVLText, Tokenizer):
    """Text, and in it `<img>path or address</img>`, `<ref>words</ref>`, `<box>(x1,y1),(x2,y2)</box>` and `<quad>`.

    A picture takes `IMAGE_SPAN` tokens between its tags: the bytes of its path, an id a byte, then `<imgpad>`.

    Source: tokenization_qwen.py of Qwen/Qwen-VL-Chat.

    Args:
        ranks: bytes of each token -> its id.
        settings: as tokenizer_config.json has them; the end and pad tokens are always `<|endoftext|>`.
    """

    files = (RANKS, CONFIG)
    saved_as = {"tokenizer_class": "QWenVLTokenizer"}  # noqa: RUF012  (by which a folder without config.json is known)
    options = tuple(name for name in Tokenizer.options if name != "return_offsets_mapping")
    shared = (QWenVLText,)
    """What a host's tokenizer of this kind has of ours."""

    def __init__(self, ranks: dict[bytes, int], settings: TokenizerSettings):
        super().__init__(replace(settings, eos_token=END, pad_token=END))
        self._ranks, self.special_tokens = ranks, special_tokens(len(ranks))
        self.tokenizer = encoding_of(ranks, self.special_tokens)
        self.decoder = {rank: token for token, rank in (ranks | self.special_tokens).items()}
        self.name_tags()
        self.eod_id, self.im_start_id, self.im_end_id = (self.special_tokens[token] for token in SPECIAL[:3])

    @classmethod
    def _of_folder(cls, folder: Path, settings: TokenizerSettings):
        return cls(read_ranks(folder / RANKS), settings)

    def __len__(self) -> int:
        return self.tokenizer.n_vocab

    def _encode(self, text: str, special: bool) -> tuple[list[int], list]:
        return self.ids(text), []

    def _decode(self, ids: list[int], skip_special_tokens: bool, errors: str | None = None) -> str:
        ids = [i for i in self.plain_ids(ids) if not (skip_special_tokens and i >= self.eod_id)]
        return self.tokenizer.decode(ids, errors=errors or self.settings.errors)

    def _id_of(self, token: str) -> int | None:
        return self.special_tokens.get(token, self._ranks.get(token.encode()))

    def _special_tokens(self) -> dict[str, int]:
        return self.special_tokens

    def _plain_ids(self, text: str) -> list[int]:
        return self.ids(text, allowed_special=())

    def _joined(self, ids: list[int]) -> list[int]:
        return self.with_slots(ids)

    def token_bytes(self) -> dict[int, bytes]:
        special = {i: token.encode() for token, i in self.special_tokens.items()}
        return {i: token for token, i in self._ranks.items()} | special

    def _save_vocabulary(self, folder: Path) -> None:
        write_ranks(self._ranks, folder / RANKS)
