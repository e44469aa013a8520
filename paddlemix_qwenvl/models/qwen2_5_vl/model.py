"""Qwen2.5-VL (arXiv:2502.13923): vision tower and language model joined."""

from __future__ import annotations

from dataclasses import dataclass

import paddle
from paddle import nn

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.layers.embedding import ParallelLMHead
from paddlemix_qwenvl.layers.mlp import SwiGLU
from paddlemix_qwenvl.models.base import DecoderModel, ModelOutput, PackedPrompt, put_features
from paddlemix_qwenvl.models.past import PastKeyValues
from paddlemix_qwenvl.models.qwen2_5_vl.config import Qwen2_5_VLConfig
from paddlemix_qwenvl.models.qwen2_5_vl.language import LanguageModel
from paddlemix_qwenvl.models.qwen2_5_vl.positions import rope_index
from paddlemix_qwenvl.models.qwen2_5_vl.vision import make_vision_tower


@dataclass
class Qwen2_5_VLOutput(ModelOutput):
    """What `forward` returns.

    Attributes:
        loss: float32 scalar, with labels.
        logits: float32 `[B, S, vocab]`, zero at padding.
        past_key_values: with `use_cache`, to be given to the call that goes on.
        rope_deltas: int64 `[B, 1]`, position of a row's next token less `S`.
    """

    loss: paddle.Tensor | None = None
    logits: paddle.Tensor | None = None
    past_key_values: PastKeyValues | None = None
    rope_deltas: paddle.Tensor | None = None


class Qwen2_5_VLForConditionalGeneration(DecoderModel):
    """Images, videos and text in, text out."""

    config_class, output_class = Qwen2_5_VLConfig, Qwen2_5_VLOutput
    _tied_weights_keys = ["lm_head.weight"]  # noqa: RUF012  (the host's own name and type)
    weight_prefixes = {  # noqa: RUF012  (transformers 4.52 and later save under longer names)
        "model.language_model.": "model.",
        "model.visual.": "visual.",
        "language_model.model.": "model.",
    }
    vision_mlp = SwiGLU
    make_vision_tower = staticmethod(make_vision_tower)
    position_rows = 3
    prompt_inputs = (
        "input_ids",
        "attention_mask",
        "position_ids",
        "pixel_values",
        "image_grid_thw",
        "pixel_values_videos",
        "video_grid_thw",
        "second_per_grid_ts",
    )

    def __init__(self, config: Qwen2_5_VLConfig):
        super().__init__(config)
        self.visual = self.make_vision_tower(config.vision_config, config.vision_parallel)
        self.model = LanguageModel(config)
        tied_to = self.model.embed_tokens if config.tie_word_embeddings else None
        self.lm_head = ParallelLMHead(config.vocab_size, config.hidden_size, tied_to)
        self.optional_weights = frozenset({"lm_head.weight"} if config.tie_word_embeddings else ())

    def get_input_embeddings(self) -> nn.Layer:
        """The token embedding."""
        return self.model.embed_tokens

    @property
    def decoder(self) -> LanguageModel:
        """The language model."""
        return self.model

    def get_rope_index(
        self, input_ids, image_grid_thw=None, video_grid_thw=None, second_per_grid_ts=None, attention_mask=None
    ):
        """3D positions of a padded batch: `(position_ids int64 [3, B, S], rope_deltas int64 [B, 1])`.

        Raises:
            PromptError: the placeholders in the text do not fit the grids.
        """
        ids = _numpy(input_ids)
        mask = (ids == ids) if attention_mask is None else _numpy(attention_mask)
        vision = self.config.vision_config
        positions, deltas = rope_index(
            ids,
            mask,
            image_token_id=self.config.image_token_id,
            video_token_id=self.config.video_token_id,
            merge=vision.spatial_merge_size,
            tokens_per_second=vision.tokens_per_second,
            image_grid_thw=_numpy(image_grid_thw),
            video_grid_thw=_numpy(video_grid_thw),
            second_per_grid_ts=_numpy(second_per_grid_ts),
        )
        return paddle.to_tensor(positions), paddle.to_tensor(deltas)

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        pixel_values=None,
        image_grid_thw=None,
        pixel_values_videos=None,
        video_grid_thw=None,
        second_per_grid_ts=None,
        labels=None,
        past_key_values: PastKeyValues | None = None,
        use_cache: bool = False,
        return_dict: bool = True,
        **unused,
    ):
        """Logits of a batch, and the loss where labels are given.

        Args:
            input_ids: int64 `[B, S]`, placeholders grown to the images' token counts.
            attention_mask: `[B, S]`, 0 at padding, on either side.
            position_ids: int64 `[3, B, S]`; worked out from the grids if not given.
            pixel_values, image_grid_thw: patches and grids of the images, as the processor gives them.
            pixel_values_videos, video_grid_thw, second_per_grid_ts: the same for videos.
            labels: int64 `[B, S]`, token `i + 1` is predicted from token `i`; -100 is ignored.
            past_key_values: a cache from an earlier call, to go on from it; filled further in place.
            use_cache: return the cache; it has room for this call only, `generate` makes its own with room to grow.

        Returns:
            `Qwen2_5_VLOutput`, or a tuple of what is in it with `return_dict=False`.

        Raises:
            PromptError: placeholders and features do not match, or the cache is full.
        """
        media = pixel_values, image_grid_thw, pixel_values_videos, video_grid_thw, second_per_grid_ts
        prompt = self.pack(input_ids, attention_mask, position_ids, *media, past_key_values)
        loss, logits, cache = self.run(prompt, labels, past_key_values, use_cache)
        output = self.output_class(loss=loss, logits=logits, past_key_values=cache, rope_deltas=prompt.rope_deltas)
        return output if return_dict else output.to_tuple()

    def pack(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        pixel_values=None,
        image_grid_thw=None,
        pixel_values_videos=None,
        video_grid_thw=None,
        second_per_grid_ts=None,
        past: PastKeyValues | None = None,
    ) -> PackedPrompt:
        """Take the padding out of a batch, put the features in, work out the positions; arguments as in `forward`."""
        mask, indices, cu_seqlens, ids = self.unpadded(input_ids, attention_mask)
        media = (
            (self.config.image_token_id, pixel_values, image_grid_thw),
            (self.config.video_token_id, pixel_values_videos, video_grid_thw),
        )
        goes_on = past is not None and not past.empty
        if goes_on and any(values is not None for _, values, _ in media):
            raise PromptError(
                "what goes on after a cache is text alone: give all images and videos with the first call."
            )
        if not goes_on and any((values is None) != (grid is None) for _, values, grid in media):
            raise PromptError(
                "pixel_values and image_grid_thw belong together, as do those of videos: give both or none."
            )
        if position_ids is None and goes_on:
            position_ids, deltas = self.continued_positions(past, mask)
        elif position_ids is None:
            position_ids, deltas = self.get_rope_index(
                input_ids, image_grid_thw, video_grid_thw, second_per_grid_ts, mask
            )
        else:
            deltas = position_ids.max(axis=[0, 2]).unsqueeze(-1) + 1 - input_ids.shape[1]
        embeddings = self.model.embed_tokens(ids)
        for token, values, grid in media:
            if values is not None:
                embeddings = put_features(embeddings, ids == token, self.encode(values, grid))
        position_ids = position_ids.flatten(1).index_select(indices, axis=1)
        return PackedPrompt(embeddings, position_ids, indices, cu_seqlens, deltas, tuple(input_ids.shape))

    def encode(self, pixel_values, grid_thw):
        """Features `[tokens, hidden]` of images or videos."""
        return self.visual(pixel_values, grid_thw)

    def encoding(self, pixel_values, grid_thw):
        """As in `DecoderModel`."""
        return self.visual.in_pieces(pixel_values, grid_thw)


def _numpy(value):
    return value.numpy() if hasattr(value, "numpy") else value
