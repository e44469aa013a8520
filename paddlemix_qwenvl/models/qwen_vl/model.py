"""Qwen-VL (arXiv:2308.12966): vision tower and language model joined."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.layers.embedding import ParallelLMHead
from paddlemix_qwenvl.layers.kv_cache import KVCache
from paddlemix_qwenvl.media import content_key
from paddlemix_qwenvl.models.base import DecoderModel, ModelOutput, PackedPrompt, put_features
from paddlemix_qwenvl.models.qwen_vl.chat import Chat
from paddlemix_qwenvl.models.qwen_vl.config import QWenVLConfig
from paddlemix_qwenvl.models.qwen_vl.images import Slot, find_slots, picture_name, read_pictures
from paddlemix_qwenvl.models.qwen_vl.language import Transformer, logn_scale
from paddlemix_qwenvl.models.qwen_vl.positions import ntk_alpha
from paddlemix_qwenvl.models.qwen_vl.vision import VisualMLP


@dataclass
class QWenVLOutput(ModelOutput):
    """What `forward` returns.

    Attributes:
        loss: float32 scalar, with labels.
        logits: float32 `[B, S, vocab]`, zero at padding.
        past_key_values: the `KVCache`, with `use_cache`.
    """

    loss: paddle.Tensor | None = None
    logits: paddle.Tensor | None = None
    past_key_values: KVCache | None = None


class QWenLMHeadModel(Chat, DecoderModel):
    """Pictures, text and boxes in, text and boxes out."""

    config_class, output_class = QWenVLConfig, QWenVLOutput
    base_model_prefix = "transformer"
    weight_prefixes = {  # noqa: RUF012  (PaddleMIX's own names, and PaddleNLP's)
        "transformer.llm.": "transformer.",
        "qwen.": "transformer.",
        "visual.vit.": "transformer.visual.",
        "visual.": "transformer.visual.",
    }
    vision_path = "transformer.visual"
    vision_mlp = VisualMLP
    prompt_inputs = ("input_ids", "attention_mask", "position_ids", "images", "remember_images")

    def __init__(self, config: QWenVLConfig):
        super().__init__(config)
        self.transformer = Transformer(config)
        self.lm_head = ParallelLMHead(config.vocab_size, config.hidden_size)

    @property
    def decoder(self) -> Transformer:
        """The language model."""
        return self.transformer

    def get_input_embeddings(self) -> nn.Layer:
        """The token embedding."""
        return self.transformer.wte

    def position_tables(self, position_ids, cache: KVCache | None, length: int | None = None):
        """Rotary tables with dynamic NTK, and the factors of log-n attention; neither is at work in training."""
        alpha = 1.0 if cache is None else cache.ntk_alpha
        if (cache is None or cache.empty) and self.config.use_dynamic_ntk and not self.training:
            alpha = ntk_alpha(length, self.config.seq_length)
            if cache is not None:
                cache.ntk_alpha = alpha
        scale = None
        if self.config.use_logn_attn and not self.training:
            scale = logn_scale(position_ids[0], self.config.seq_length)
        return *self.transformer.rotary_tables(position_ids[0], alpha), scale

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        images=None,
        labels=None,
        past_key_values: KVCache | None = None,
        use_cache: bool = False,
        return_dict: bool = True,
        **unused,
    ):
        """Logits of a batch, and the loss where labels are given.

        Args:
            input_ids: int64 `[B, S]`, from the tokenizer; a picture takes `n_queries` tokens between `<img>` and `</img>`.
            attention_mask: `[B, S]`, 0 at padding, on either side.
            position_ids: int64 `[B, S]`; a token's place in its padded row if not given, as in the original.
            images: float32 `[pictures, 3, image_size, image_size]`, all pictures of the batch in reading order, as the processor
                gives them; if not given, they are read from the paths and addresses in the ids.
            labels: int64 `[B, S]`, token `i + 1` is predicted from token `i`; -100 is ignored.
            past_key_values: a cache from an earlier call, to go on from it; filled further in place.
            use_cache: return the cache; it has room for this call only, `generate` makes its own with room to grow.

        Returns:
            `QWenVLOutput`, or a tuple of what is in it with `return_dict=False`.

        Raises:
            PromptError: ids in which the pictures cannot be made out, or that do not fit `images`.
            MediaError: a picture that cannot be read.
        """
        prompt = self.pack(input_ids, attention_mask, position_ids, images, cache=past_key_values)
        loss, logits, cache = self.run(prompt, labels, past_key_values, use_cache)
        output = self.output_class(loss=loss, logits=logits, past_key_values=cache)
        return output if return_dict else output.to_tuple()

    def pack(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        images=None,
        remember_images: bool = False,
        cache: KVCache | None = None,
    ) -> PackedPrompt:
        """Take the padding out of a batch, put the pictures' features in; arguments as in `forward`.

        With `remember_images`, features are kept for when the same picture comes again.
        """
        mask, indices, cu_seqlens, ids = self.unpadded(input_ids, attention_mask)
        batch, length = input_ids.shape
        if position_ids is None and cache is not None:
            position_ids, deltas = self.continued_positions(cache, mask)
        elif position_ids is None:
            position_ids = paddle.arange(length).expand([1, batch, length])
            deltas = paddle.zeros([batch, 1], "int64")
        else:
            position_ids, deltas = position_ids.unsqueeze(0), position_ids.max(axis=1, keepdim=True) + 1 - length
        embeddings = self.transformer.wte(ids)
        visual, rows = self.config.visual, input_ids.numpy()
        slots = find_slots(rows, visual["image_start_id"], visual["n_queries"])
        if slots:
            features = self.encode(self._pixels(rows, slots, images), remember_images)
            where = np.zeros([batch, length], bool)
            for slot in slots:
                where[slot.row, slot.start : slot.stop] = True
            where = paddle.to_tensor(where).flatten().index_select(indices)
            embeddings = put_features(embeddings, where, features.flatten(0, 1))
        position_ids = position_ids.flatten(1).index_select(indices, axis=1)
        return PackedPrompt(embeddings, position_ids, indices, cu_seqlens, deltas, (batch, length))

    def _pixels(self, ids: np.ndarray, slots: list[Slot], images):
        if images is None:
            start_id = self.config.visual["image_start_id"]
            names = [picture_name(ids[slot.row, slot.start : slot.stop], start_id) for slot in slots]
            pixels, _ = read_pictures(names, self.config.visual["image_size"])
            return paddle.to_tensor(pixels)
        if images.shape[0] != len(slots):
            raise PromptError(
                f"the text has {len(slots)} picture(s) but images has {images.shape[0]}: pass the processor's outputs on as they "
                f"are, all of them from one call."
            )
        return images

    def encode(self, images, remember: bool = False):
        """Features `[pictures, n_queries, hidden]` of pictures; adds the time to `vision_seconds`."""
        started = time.perf_counter()
        features = self._recall(images) if remember else self.transformer.visual(images)
        self.vision_seconds = getattr(self, "vision_seconds", 0.0) + time.perf_counter() - started
        return features

    def _recall(self, images):
        """`encode` that takes pictures it has seen before from memory."""

        def encode(new: list[int]):
            return self.transformer.visual(images.index_select(paddle.to_tensor(new)))

        return paddle.stack(self.recall([content_key(picture) for picture in images.numpy()], encode))
