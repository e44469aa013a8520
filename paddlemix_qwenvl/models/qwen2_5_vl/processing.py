"""Messages, images and videos to model inputs, and ids back to text: the host-facing side of `media` and `prompt`."""

from __future__ import annotations

import json
import os
from numbers import Real
from pathlib import Path

from paddlenlp.transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from paddlenlp.transformers.processing_utils import ProcessorMixin

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import ConfigurationError, PromptError
from paddlemix_qwenvl.media import preprocess_images, preprocess_videos
from paddlemix_qwenvl.media.arguments import flat_images, flat_videos
from paddlemix_qwenvl.media.messages import process_vision_info
from paddlemix_qwenvl.media.patches import IMAGE_MEAN, IMAGE_STD
from paddlemix_qwenvl.models.host_side import tensors
from paddlemix_qwenvl.models.qwen2_5_vl.prompt import IMAGE_TOKEN, VIDEO_TOKEN, grow_placeholders, render_chat
from paddlemix_qwenvl.models.qwen2_5_vl.tokenizer import Qwen2_5_VLTokenizer

DEFAULT_FPS = 2.0


class Qwen2_5_VLImageProcessor(BaseImageProcessor):
    """Resizes pictures to whole patches within pixel limits and cuts them up; see `media.preprocess_images`.

    Args:
        min_pixels, max_pixels: bounds of width times height after resizing.
        size: the newer name of these bounds, `{"shortest_edge": min_pixels, "longest_edge": max_pixels}`.
        patch_size, temporal_patch_size, merge_size, image_mean, image_std, rescale_factor: as in the Hub's
            preprocessor_config.json.
    """

    model_input_names = ["pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"]  # noqa: RUF012

    def __init__(
        self,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        size: dict | None = None,
        patch_size: int = 14,
        temporal_patch_size: int = 2,
        merge_size: int = 2,
        image_mean=IMAGE_MEAN,
        image_std=IMAGE_STD,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        **kwargs,
    ):
        super().__init__(**kwargs)
        size = size or {}
        self.min_pixels = min_pixels or size.get("shortest_edge") or 56 * 56
        self.max_pixels = max_pixels or size.get("longest_edge") or 28 * 28 * 1280
        self.patch_size = patch_size
        self.temporal_patch_size = temporal_patch_size
        self.merge_size = merge_size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor

    def to_dict(self) -> dict:
        """What is saved, under the name by which transformers knows this image processor."""
        return {**super().to_dict(), "image_processor_type": "Qwen2VLImageProcessor"}

    def preprocess(self, images=None, videos=None, return_tensors: str | None = None, **overrides) -> BatchFeature:
        """Patches, grids and sizes of images and videos.

        Args:
            images: one picture (path, URL, data URI, PIL, array), a list, or a list for each prompt.
            videos: one video, a list, or a list for each prompt; each a `Video`, a list of pictures or an array
                `[frames, ...]`.
            return_tensors: "pd", "np" or None (also NumPy).
            overrides: `min_pixels`, `max_pixels` for this call.

        Raises:
            MediaError: a picture that cannot be read or resized.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        settings = {name: given.get(name, getattr(self, name)) for name in _PATCH_SETTINGS}
        data: dict = {}
        if images := flat_images(images):
            data.update(preprocess_images(images, **settings))
        if videos := flat_videos(videos):
            data.update(preprocess_videos(videos, **settings))
        return tensors(data, return_tensors)

    def __call__(self, images=None, videos=None, **kwargs) -> BatchFeature:
        return self.preprocess(images, videos, **kwargs)


_PATCH_SETTINGS = (
    "min_pixels",
    "max_pixels",
    "patch_size",
    "temporal_patch_size",
    "merge_size",
    "image_mean",
    "image_std",
    "do_rescale",
    "rescale_factor",
)


class Qwen2_5_VLProcessor(ProcessorMixin):
    """Image processor, tokenizer and chat template as one."""

    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012
    image_processor_class = "Qwen2_5_VLImageProcessor"
    tokenizer_class = "Qwen2_5_VLTokenizer"

    def __init__(self, image_processor, tokenizer, chat_template: str | None = None, **overrides):
        """`overrides` (`min_pixels`, `max_pixels`) change the image processor, as upstream's processor allows."""
        super().__init__(image_processor, tokenizer)
        for name, value in overrides.items():
            if name not in _PATCH_SETTINGS:
                raise ConfigurationError(
                    f"{name!r} is no setting of the processor: choose from {', '.join(_PATCH_SETTINGS)}."
                )
            setattr(image_processor, name, value)
        self.chat_template = chat_template or tokenizer.chat_template

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs):
        """Load from a folder or by name.

        Args:
            pretrained_model_name_or_path: as in the model's `from_pretrained`.
            kwargs: `min_pixels`, `max_pixels`, or the host's (`cache_dir`, `from_hf_hub`, ...).
        """
        overrides = {name: kwargs.pop(name) for name in _PATCH_SETTINGS if name in kwargs}
        name = hub.locate(str(pretrained_model_name_or_path))
        image_processor = Qwen2_5_VLImageProcessor.from_pretrained(name, **kwargs)
        tokenizer = Qwen2_5_VLTokenizer.from_pretrained(name, **kwargs)
        return cls(image_processor, tokenizer, **overrides)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Write the Hub's files: preprocessor_config.json, the tokenizer's, and chat_template.json."""
        super().save_pretrained(save_directory, **kwargs)
        if self.chat_template is not None:
            temporary = Path(save_directory) / ".chat_template.json.tmp"
            temporary.write_text(
                json.dumps({"chat_template": self.chat_template}, ensure_ascii=False, indent=2), encoding="utf-8"
            )
            temporary.rename(Path(save_directory) / "chat_template.json")

    def __call__(
        self,
        images=None,
        text=None,
        videos=None,
        padding: bool | str = True,
        return_tensors: str | None = None,
        fps: float | list[float] | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        **tokenizer_options,
    ) -> BatchFeature:
        """Inputs of the model for a batch of prompts.

        Args:
            images: all images of the batch in the order of their placeholders, in one list or a list for each prompt.
            text: one prompt or a list, with one placeholder an image or video, as `apply_chat_template` gives them.
            videos: all videos of the batch, likewise, each a `Video`, a list of pictures or an array `[frames, ...]`.
            padding: pad the rows to one length, on the left.
            return_tensors: "pd" or "np"; None gives lists for the text and NumPy for the media.
            fps: frames a second of the videos as sampled, one number or one for each. None: what `load_video` sampled them at,
                2 for plain lists of frames.
            min_pixels, max_pixels: bounds for this call.

        Returns:
            `input_ids`, `attention_mask` `[B, S]`; with images `pixel_values`, `image_grid_thw`; with videos
            `pixel_values_videos`, `video_grid_thw`, `second_per_grid_ts`; and the pictures' `original_sizes` and
            `resized_sizes` as (width, height), which `grounding.parse` takes.

        Raises:
            MediaError: a picture that cannot be read or resized.
            PromptError: placeholders and media do not match, or there is no text.
        """
        if text is None:
            raise PromptError("the processor needs text=[...]: render your messages with apply_chat_template.")
        texts = [text] if isinstance(text, str) else list(text)
        if not texts or not all(isinstance(one, str) for one in texts):
            raise PromptError(
                f"text is {texts!r:.200}: give one prompt or a list of them, as apply_chat_template does."
            )
        videos = flat_videos(videos)
        media = self.image_processor(images, videos, min_pixels=min_pixels, max_pixels=max_pixels)
        merge = self.image_processor.merge_size
        texts = grow_placeholders(texts, IMAGE_TOKEN, media.get("image_grid_thw"), merge, "image")
        texts = grow_placeholders(texts, VIDEO_TOKEN, media.get("video_grid_thw"), merge, "video")
        if "video_grid_thw" in media:
            media["second_per_grid_ts"] = self._seconds(fps, videos)
        encoded = self.tokenizer(
            texts, padding=padding, return_attention_mask=True, return_token_type_ids=False, **tokenizer_options
        )
        return tensors({**encoded, **media}, return_tensors)

    def _seconds(self, fps, videos) -> list[float]:
        """Seconds between temporal patches of each video."""
        if fps is None:
            fps = [getattr(video, "fps", DEFAULT_FPS) for video in videos]
        rates = [fps] * len(videos) if isinstance(fps, Real) else list(fps)
        if len(rates) != len(videos) or not all(0 < rate < float("inf") for rate in rates):
            raise PromptError(
                f"fps is {fps!r} for {len(videos)} video(s): give one number over 0, or one for each video."
            )
        return [self.image_processor.temporal_patch_size / rate for rate in rates]

    def apply_chat_template(
        self,
        conversation,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        chat_template: str | None = None,
        **kwargs,
    ):
        """The prompt's text; with `tokenize`, the model's inputs, media fetched as the messages say.

        Args:
            conversation: messages in the Hub's format, or a list of conversations.
            kwargs: variables of the template (`add_vision_id`), or with `tokenize` arguments of the processor call.
        """
        template = chat_template or self.chat_template
        if not tokenize:
            return render_chat(template, conversation, add_generation_prompt, **kwargs)
        texts = render_chat(template, conversation, add_generation_prompt)
        images, videos, video_options = process_vision_info(conversation, return_video_kwargs=True)
        return self(images=images, text=texts, videos=videos, **{**video_options, **kwargs})

    def batch_decode(self, token_ids, skip_special_tokens: bool = False, **kwargs) -> list[str]:
        """Texts of a batch of ids `[B, new]`; also of `generate`'s whole return value."""
        ids = token_ids[0] if isinstance(token_ids, tuple) else token_ids
        return self.tokenizer.batch_decode(ids, skip_special_tokens=skip_special_tokens, **kwargs)

    def decode(self, token_ids, skip_special_tokens: bool = False, **kwargs) -> str:
        """Text of one row of ids."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs)

    def post_process(self, token_ids) -> list[str]:
        """The answers as a user reads them: special tokens dropped, outer spaces stripped."""
        return [text.strip() for text in self.batch_decode(token_ids, skip_special_tokens=True)]

    @property
    def model_input_names(self) -> list[str]:
        """Names of what a call may return for the model."""
        return ["input_ids", "attention_mask", *self.image_processor.model_input_names, "second_per_grid_ts"]
