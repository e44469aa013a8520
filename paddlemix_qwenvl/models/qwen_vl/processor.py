"""From a question with pictures to the model's inputs, and from its ids to text and boxes."""

from __future__ import annotations

import os

import numpy as np

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.fields import wrong
from paddlemix_qwenvl.media.messages import extract_vision_info
from paddlemix_qwenvl.models.batch import BatchFeature, tensors
from paddlemix_qwenvl.models.call_options import TEXT, check_names, split_options, texts_of
from paddlemix_qwenvl.models.generation_config import GENERATION_CONFIG
from paddlemix_qwenvl.models.processor import ImageProcessor, Processor
from paddlemix_qwenvl.models.qwen_vl.config import QWenVLConfig, Visual
from paddlemix_qwenvl.models.qwen_vl.images import find_slots, picture_name, read_pictures
from paddlemix_qwenvl.models.qwen_vl.prompt import (
    CHATML,
    plain_parts,
    read_chat_format,
    render_messages,
)
from paddlemix_qwenvl.models.qwen_vl.tags import IMAGE_SPAN
from paddlemix_qwenvl.models.qwen_vl.tokenizer import QWenVLTokenizer

GROUPS = {
    "text_kwargs": tuple(name for name in TEXT if name != "return_offsets_mapping"),
    "images_kwargs": ("return_tensors",),
}
"""What a call takes, sorted as transformers' processors sort it."""


class QWenVLImageProcessor(ImageProcessor):
    """Pictures as squares of `image_size` pixels, normalized; see `pictures.read_pictures`."""

    model_input_names = ["images"]  # noqa: RUF012  (the host's own name and type)

    def __init__(self, image_size: int = Visual.image_size):
        self.image_size = image_size

    def preprocess(self, images, return_tensors: str | None = None, **options) -> BatchFeature:
        """`images` float32 `[pictures, 3, image_size, image_size]`, and `original_sizes` and `resized_sizes` as (width, height).

        Args:
            images: one picture or a list (path, URL, data URI, PIL, array).
            return_tensors: "pd", "np" or None (also NumPy).

        Raises:
            ConfigurationError: an option, as there are no others.
            MediaError: a picture that cannot be read.
        """
        check_names(options, ("return_tensors",), "the image processor")
        pixels, sizes = read_pictures(images if isinstance(images, list | tuple) else [images], self.image_size)
        resized = [(self.image_size, self.image_size)] * len(sizes)
        return tensors({"images": pixels, "original_sizes": sizes, "resized_sizes": resized}, return_tensors)


class QWenVLProcessor(Processor):
    """Tokenizer and image processor as one."""

    attributes = ["tokenizer"]  # noqa: RUF012
    tokenizer_class = "QWenVLTokenizer"
    parts = {"image_processor": QWenVLImageProcessor, "tokenizer": QWenVLTokenizer}  # noqa: RUF012
    answer_tokens = tuple(f"<{end}{tag}>" for tag in ("ref", "box", "quad") for end in ("", "/"))
    grid = (1000, 1000)

    def __init__(self, tokenizer: QWenVLTokenizer, image_size: int = Visual.image_size, chat_format: str | None = None):
        self.tokenizer, self.image_processor = tokenizer, self.parts["image_processor"](image_size)
        self.chat_format = chat_format or CHATML

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **settings):
        """Load from a folder or by name; pictures take the size that the model's config says, 448 if there is none, and
        conversations the `chat_format` of its generation config, "chatml" if there is none.

        Args:
            settings: as in the tokenizer's `from_pretrained`.

        Raises:
            ConfigurationError: a setting that nobody knows; files that are missing, wrong, or do not belong together.
            DownloadError: a name that cannot be had.
        """
        source = hub.take_source(settings)
        folder = hub.gather(pretrained_model_name_or_path, (*cls.parts["tokenizer"].files, GENERATION_CONFIG), **source)
        tokenizer = cls.parts["tokenizer"].from_pretrained(folder, **settings)
        if not (folder / "config.json").is_file():
            return cls(tokenizer)
        visual = QWenVLConfig.from_pretrained(folder).visual
        if visual["image_start_id"] != tokenizer.img_start_id:
            raise wrong(
                folder / "config.json",
                "visual.image_start_id",
                visual["image_start_id"],
                f"{tokenizer.img_start_id}, the id of <img> in the tokenizer",
            )
        return cls(tokenizer, visual["image_size"], read_chat_format(folder))

    def __call__(
        self,
        query: str | list[dict] | None = None,
        text: str | list[str] | None = None,
        images=None,
        videos=None,
        **options,
    ) -> BatchFeature:
        """Inputs of the model.

        Args:
            query: one prompt in list format, `[{"image": path}, {"text": words}]`, or as text; or
            text: prompts with `<img>path or address</img>` for each picture.
            images: the pictures of all prompts in reading order (path, URL, data URI, PIL, array); if not given, they are read
                from the paths and addresses in the text.
            videos: must be empty, as Qwen-VL knows none; other families' processors take them.
            options: those in `GROUPS`, alone or in a dict of their group:
                padding: pad the rows to one length, on the left; True by default.
                return_tensors: "pd" or "np"; None gives lists for the text and NumPy for the pictures.

        Returns:
            `input_ids`, `attention_mask` `[B, S]`; with pictures `images`, and their `original_sizes` and `resized_sizes` as
            (width, height), which `grounding.parse` takes.

        Raises:
            ConfigurationError: an option that nobody knows, or of another kind.
            MediaError: a picture that cannot be read.
            PromptError: no prompt or two, videos, tags that are not closed, or not as many pictures as `<img>`.
        """
        if (query is None) == (text is None):
            raise PromptError("the processor needs query=[...] or text=[...], one of the two.")
        if videos:
            raise PromptError("Qwen-VL takes no videos: pass single frames as images.")
        if text is None:
            text = query if isinstance(query, str) else self.tokenizer.from_list_format(query)
        texts = texts_of(text)
        for_text, for_images = split_options(options, GROUPS, "the processor").values()
        kinds = [group.pop("return_tensors", None) for group in (for_text, for_images)]
        encoded = self.tokenizer(texts, **{"padding": True, **for_text, "return_attention_mask": True})
        names = self._names(encoded["input_ids"])
        pictures = names if images is None else images if isinstance(images, list | tuple) else [images]
        if len(pictures) != len(names):
            raise PromptError(
                f"there are {len(names)} <img> in the text but {len(pictures)} images: give one for each."
            )
        data = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        return tensors(
            {**data, **(self.image_processor(pictures) if pictures else {})}, next(filter(None, kinds), None)
        )

    def _names(self, rows: list[list[int]]) -> list[str]:
        """Paths and addresses of all pictures in rows of ids."""
        names, start_id = [], self.tokenizer.img_start_id
        for row in rows:
            ids = np.asarray([row])
            slots = find_slots(ids, start_id, IMAGE_SPAN)
            names += [picture_name(ids[0, slot.start : slot.stop], start_id) for slot in slots]
        return names

    def apply_chat_template(
        self,
        conversation: list[dict],
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        return_dict: bool = True,
        **options,
    ):
        """A conversation as ChatML text, or for a model that is no chat model its parts as they are; with `tokenize`, the
        model's inputs.

        Args:
            conversation: messages in the Hub's format, `{"role": ..., "content": words or parts}`, parts such as
                `{"type": "image", "image": picture}` and `{"type": "text", "text": words}`.
            return_dict: with `tokenize`, all inputs, not `input_ids` alone.
            options: with `tokenize`, those of the processor's call.

        Raises:
            ConfigurationError: an option that nobody knows.
            PromptError: messages that are none.
        """
        check_names(options, ("images", "common_kwargs", *GROUPS, *GROUPS["text_kwargs"]), "apply_chat_template")
        if self.chat_format == CHATML:
            text = render_messages(conversation, add_generation_prompt)
        else:
            text = self.tokenizer.from_list_format(plain_parts(conversation))
        if not tokenize:
            return text
        inputs = self(text=[text], **options)
        return inputs if return_dict else inputs["input_ids"]

    @property
    def stop_token_ids(self) -> list[int] | None:
        """What ends an answer: of a chat model, a turn's end as well as the text's."""
        tokenizer = self.tokenizer
        turn = [tokenizer.im_end_id, tokenizer.im_start_id, tokenizer.eod_id]
        return turn if self.chat_format == CHATML else None

    def fetch_media(self, conversations, cache=None) -> tuple[list, list]:
        """Pictures and videos of messages as they are: the call makes squares of the pictures, whatever their size."""
        elements = extract_vision_info(conversations)
        images, videos = ([element[kind] for element in elements if kind in element] for kind in ("image", "video"))
        return images, videos

    def answer_text(self, token_ids: list[int]) -> str:
        """One answer, or a part of it, up to where the turn ends, tags of boxes and all."""
        ends = {self.tokenizer.eod_id, *(self.stop_token_ids or ())}
        stop = next((place for place, token in enumerate(token_ids) if token in ends), len(token_ids))
        return self.tokenizer.decode(token_ids[:stop], skip_special_tokens=False)

    @property
    def model_input_names(self) -> list[str]:
        """Names of what a call may return for the model."""
        return ["input_ids", "attention_mask", "images"]
