"""Messages, images and videos to model inputs, and ids back to text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import ConfigurationError, PromptError
from paddlemix_qwenvl.fields import wrong
from paddlemix_qwenvl.files import write_json
from paddlemix_qwenvl.media.arguments import flat_videos
from paddlemix_qwenvl.models.batch import BatchFeature, tensors
from paddlemix_qwenvl.models.call_options import LOADING, TEXT, check_names, split_options, texts_of
from paddlemix_qwenvl.models.chat_templates import Chosen, choose_template, processor_templates, save_templates
from paddlemix_qwenvl.models.jinja import render_chat, variables_of
from paddlemix_qwenvl.models.processor import Processor
from paddlemix_qwenvl.models.qwen2_5_vl import image_settings as pictures
from paddlemix_qwenvl.models.qwen2_5_vl.image_processor import OPTIONS, Qwen2_5_VLImageProcessor
from paddlemix_qwenvl.models.qwen2_5_vl.prompt import IMAGE_TOKEN, VIDEO_TOKEN, grow_placeholders
from paddlemix_qwenvl.models.qwen2_5_vl.tokenizer import Qwen2_5_VLTokenizer
from paddlemix_qwenvl.models.tokenizer_settings import TokenizerSettings, read_settings

DEFAULT_FPS = 2.0
GROUPS = {
    "text_kwargs": (*TEXT, "return_mm_token_type_ids"),
    "images_kwargs": (*OPTIONS, "return_tensors"),
    "videos_kwargs": (*OPTIONS, "return_tensors", "fps", "video_metadata", "do_sample_frames", "return_metadata"),
}
"""What a call takes, sorted as transformers' processors sort it."""
_MARKS = {
    "image_token_id": IMAGE_TOKEN,
    "video_token_id": VIDEO_TOKEN,
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


class Qwen2_5_VLProcessor(Processor):
    """Image processor, tokenizer and chat template as one.

    Args:
        image_processor, tokenizer: its parts.
        video_processor: an image processor for videos, where they have settings of their own.
        chat_template: Jinja text, or a dict of several by name; the tokenizer's if None.
        settings: fields of `PictureSettings`, to set in both image processors.

    Raises:
        ConfigurationError: a setting that nobody knows, or a value that cannot be.
    """

    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012
    image_processor_class = "Qwen2_5_VLImageProcessor"
    times_videos = True
    """Whether the model counts a video's positions in seconds."""
    tokenizer_class = "Qwen2_5_VLTokenizer"
    parts = {"image_processor": Qwen2_5_VLImageProcessor, "tokenizer": Qwen2_5_VLTokenizer}  # noqa: RUF012

    def __init__(
        self,
        image_processor: Qwen2_5_VLImageProcessor,
        tokenizer: Qwen2_5_VLTokenizer,
        video_processor: Qwen2_5_VLImageProcessor | None = None,
        chat_template: Chosen = None,
        **settings,
    ):
        self.image_processor, self.tokenizer = image_processor, tokenizer
        self.video_processor = video_processor or image_processor
        self.chat_template = chat_template or tokenizer.chat_template
        check_names(settings, pictures.SETTINGS, "the processor")
        for part in {image_processor, self.video_processor} if settings else ():
            part.__dict__.update(pictures.picture_settings(settings, "the processor", part.settings))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **settings):
        """Load from a folder or by name.

        Args:
            pretrained_model_name_or_path: as in the model's `from_pretrained`.
            settings: fields of `PictureSettings` (`max_pixels`, ...) and of `TokenizerSettings` (`padding_side`, ...).

        Raises:
            ConfigurationError: a setting that nobody knows; files that are missing, wrong, or do not belong together.
            DownloadError: a name that cannot be had.
        """
        source = hub.take_source(settings)
        tokenizer_settings = TokenizerSettings.__dataclass_fields__
        given = {name: value for name, value in settings.items() if value is not None and name not in LOADING}
        check_names(given, (*pictures.SETTINGS, *tokenizer_settings), "the processor")
        image_processor, tokenizer = (cls.parts[name] for name in cls.attributes)
        folder = hub.gather(pretrained_model_name_or_path, (*tokenizer.files, *pictures.FILES), **source)
        tokenizer = tokenizer.from_pretrained(
            folder, **{name: value for name, value in given.items() if name in tokenizer_settings}
        )
        _check_ids(folder, tokenizer)
        images, videos = pictures.read_picture_settings(folder)
        own = {name: value for name, value in given.items() if name in pictures.SETTINGS}
        return cls(
            image_processor(**images),
            tokenizer,
            image_processor(**videos) if videos != images else None,
            given.get("chat_template") or processor_templates(folder, read_settings(folder)),
            **own,
        )

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Write the Hub's files: preprocessor_config.json, the tokenizer's, and chat_template.json."""
        super().save_pretrained(save_directory)
        folder = Path(save_directory)
        for name in (pictures.PROCESSOR, pictures.VIDEO_PREPROCESSOR):  # an older file would go first
            (folder / name).unlink(missing_ok=True)
        if self.video_processor.settings != self.image_processor.settings:
            found = {**self.video_processor.settings, "video_processor_type": "Qwen2VLVideoProcessor"}
            write_json(folder / pictures.VIDEO_PREPROCESSOR, found)
        if self.chat_template is not None:
            save_templates(self.chat_template, folder)

    def __call__(self, images=None, text=None, videos=None, **options) -> BatchFeature:
        """Inputs of the model for a batch of prompts.

        Args:
            images: all images of the batch in the order of their placeholders, in one list or a list for each prompt.
            text: one prompt or a list, with one placeholder an image or video, as `apply_chat_template` gives them.
            videos: all videos of the batch, likewise, each a `Video`, a list of pictures or an array `[frames, ...]`.
            options: those in `GROUPS`, alone or in a dict of their group (`images_kwargs={"max_pixels": ...}`):
                padding: pad the rows to one length, on the left; True by default. Others of the tokenizer's call.
                return_tensors: "pd" or "np"; None gives lists for the text and NumPy for the media.
                fps: frames a second of the videos as sampled, one number or one for each. None: what `load_video` sampled them
                    at, or what `video_metadata` says, 2 for plain lists of frames.
                min_pixels, max_pixels, size and others of `PictureSettings`: for this call.
                return_mm_token_type_ids: whether to tell text (0), images (1) and videos (2) apart in `mm_token_type_ids`.

        Returns:
            `input_ids`, `attention_mask` `[B, S]`; with images `pixel_values`, `image_grid_thw`; with videos
            `pixel_values_videos`, `video_grid_thw`, `second_per_grid_ts`; and the pictures' `original_sizes` and
            `resized_sizes` as (width, height), which `grounding.parse` takes.

        Raises:
            ConfigurationError: an option that nobody knows, or of another kind.
            MediaError: a picture that cannot be read or resized.
            PromptError: placeholders and media do not match, or there is no text.
        """
        if text is None:
            raise PromptError("the processor needs text=[...]: render your messages with apply_chat_template.")
        texts = texts_of(text)
        for_text, for_images, for_videos = split_options(options, GROUPS, "the processor").values()
        kinds = [group.pop("return_tensors", None) for group in (for_text, for_images, for_videos)]
        videos = flat_videos(videos)
        media = dict(self.image_processor(images, **for_images))
        rates = _rates(for_videos, videos)
        media |= self.video_processor(None, videos, **for_videos)
        image, video = self.image_processor.settings | for_images, self.video_processor.settings | for_videos
        texts = grow_placeholders(texts, IMAGE_TOKEN, media.get("image_grid_thw"), image["merge_size"], "image")
        texts = grow_placeholders(texts, VIDEO_TOKEN, media.get("video_grid_thw"), video["merge_size"], "video")
        if videos and self.times_videos:
            media["second_per_grid_ts"] = [video["temporal_patch_size"] / rate for rate in rates]
        return_types = for_text.pop("return_mm_token_type_ids", False)
        defaults = {"padding": True, "return_attention_mask": True, "return_token_type_ids": False}
        encoded = dict(self.tokenizer(texts, **{**defaults, **for_text}))
        types = self._token_types(encoded["input_ids"], texts)
        if return_types:
            encoded["mm_token_type_ids"] = types
        return tensors({**encoded, **media}, next(filter(None, kinds), None))

    def _token_types(self, rows: list[list[int]], texts: list[str]) -> list[list[int]]:
        """Of each token, 0 for text, 1 for images, 2 for videos. Raises PromptError where truncation took some of these."""
        kinds = {IMAGE_TOKEN: 1, VIDEO_TOKEN: 2}
        types = [np.zeros(len(row), int) for row in rows]
        for token, kind in kinds.items():
            for row, marks in zip(rows, types, strict=True):
                marks[np.asarray(row) == self.tokenizer.convert_tokens_to_ids(token)] = kind
            wanted, left = sum(text.count(token) for text in texts), sum(int((marks == kind).sum()) for marks in types)
            if left != wanted:
                raise PromptError(
                    f"truncation leaves {left} of the {wanted} {token} that stand for it: raise max_length, or lower max_pixels."
                )
        return [marks.tolist() for marks in types]

    def apply_chat_template(
        self,
        conversation,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        chat_template: str | None = None,
        *,
        tools: list[dict | Callable] | None = None,
        return_dict: bool = True,
        processor_kwargs: dict | None = None,
        **kwargs: Any,
    ):
        """The prompt's text; with `tokenize`, the model's inputs, media fetched as the messages say.

        Args:
            conversation, add_generation_prompt, tools: as in `render_chat`.
            chat_template: a template, or the name of one of the processor's.
            return_dict: with `tokenize`, all inputs, not `input_ids` alone.
            processor_kwargs: with `tokenize`, options of the processor's call.
            kwargs: `documents`, `continue_final_message` and what else the template reads (`add_vision_id`); with `tokenize` also
                options of the processor's call.

        Raises:
            PromptError, MediaError: messages that cannot be rendered, media that cannot be fetched.
            ConfigurationError: with `tokenize`, a name that neither the template nor the processor knows.
        """
        template = choose_template(self.chat_template, chat_template)
        known = {name for names in GROUPS.values() for name in names} | {*GROUPS, "common_kwargs"}
        options = {name: value for name, value in kwargs.items() if tokenize and name in known}
        variables = {name: value for name, value in kwargs.items() if name not in options}
        if tokenize:
            check_names(variables, (*variables_of(template), *sorted(known)), "apply_chat_template")
        special = {name: token for name, token in self.tokenizer.special_tokens_map.items() if name not in variables}
        texts = render_chat(template, conversation, add_generation_prompt, tools=tools, **special, **variables)
        if not tokenize:
            return texts
        images, videos = self.fetch_media(conversation)
        inputs = self(images=images, text=texts, videos=videos, **options, **(processor_kwargs or {}))
        return inputs if return_dict else inputs["input_ids"]

    @property
    def model_input_names(self) -> list[str]:
        """Names of what a call may return for the model."""
        times = ["second_per_grid_ts"] if self.times_videos else []
        return ["input_ids", "attention_mask", *self.image_processor.model_input_names, *times]


def _rates(options: dict, videos: list) -> list[float]:
    """Frames a second of each video as sampled; takes out of `options` what is said of them."""
    for name in ("do_sample_frames", "return_metadata"):
        if options.pop(name, False):
            raise ConfigurationError(
                f"{name} is True: sample videos by load_video or process_vision_info, and leave it out."
            )
    fps, metadata = options.pop("fps", None), options.pop("video_metadata", None)
    if fps is None:
        described = [None] * len(videos) if metadata is None else metadata
        if not isinstance(described, list | tuple) or len(described) != len(videos):
            raise PromptError(f"video_metadata is {metadata!r:.200}: give a list with one for each video.")
        pairs = zip(described, videos, strict=True)
        fps = [_sampled_fps(one) or getattr(video, "fps", DEFAULT_FPS) for one, video in pairs]
    rates = [fps] * len(videos) if isinstance(fps, Real) else fps
    if not isinstance(rates, list | tuple | np.ndarray) or len(rates) != len(videos) or not all(map(_is_rate, rates)):
        raise PromptError(f"fps is {fps!r} for {len(videos)} video(s): give one number over 0, or one for each video.")
    return [float(rate) for rate in rates]


def _sampled_fps(metadata: Any) -> float | None:
    """Source: `VideoMetadata.sampled_fps` of transformers 5.24.0."""
    found = metadata if isinstance(metadata, Mapping) else getattr(metadata, "__dict__", {})
    fps, total, taken = (found.get(name) for name in ("fps", "total_num_frames", "frames_indices"))
    is_sampled = _is_rate(fps) and _is_rate(total) and isinstance(taken, list | tuple | np.ndarray)
    return len(taken) / total * fps if is_sampled else fps


def _is_rate(rate: Any) -> bool:
    return isinstance(rate, Real) and not isinstance(rate, bool) and 0 < rate < float("inf")


def _check_ids(folder: Path, tokenizer: Qwen2_5_VLTokenizer) -> None:
    """Raises ConfigurationError where config.json knows the marks of pictures by other ids than the tokenizer."""
    for name, given in vars(pictures.read_model_facts(folder)).items():
        if name in _MARKS and given is not None and given != (found := tokenizer.convert_tokens_to_ids(_MARKS[name])):
            raise wrong(folder / "config.json", name, given, f"{found}, the id of {_MARKS[name]} in the tokenizer")
