"""Qwen-VL (arXiv:2308.12966): vision tower and language model joined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from paddlemix_qwenvl.device import to_device
from paddlemix_qwenvl.layers.embedding import ParallelLMHead
from paddlemix_qwenvl.models.base import DecoderModel, ModelOutput, PackedPrompt, put_features
from paddlemix_qwenvl.models.past import PastKeyValues
from paddlemix_qwenvl.models.qwen_vl.chat import Chat
from paddlemix_qwenvl.models.qwen_vl.config import QWenVLConfig
from paddlemix_qwenvl.models.qwen_vl.images import find_slots
from paddlemix_qwenvl.models.qwen_vl.language import Transformer, logn_scale
from paddlemix_qwenvl.models.qwen_vl.positions import ntk_alpha, pixels_of
from paddlemix_qwenvl.models.qwen_vl.vision import VisualMLP


@dataclass
class QWenVLOutput(ModelOutput):
    """What `forward` returns.

    Attributes:
        loss: float32 scalar, with labels.
        logits: float32 `[B, S, vocab]`, zero at padding.
        past_key_values: with `use_cache`, to be given to the call that goes on.
    """

    loss: paddle.Tensor | None = None
    logits: paddle.Tensor | None = None
    past_key_values: PastKeyValues | None = None


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
    prompt_inputs = ("input_ids", "attention_mask", "position_ids", "images")

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

    def ntk_alpha(self, length: int) -> float | None:
        """By dynamic NTK, which is not at work in training."""
        return ntk_alpha(length, self.config.seq_length) if self.config.use_dynamic_ntk and not self.training else None

    def query_scale(self, position_ids):
        """The factors of log-n attention, which is not at work in training."""
        return None if self.scaled_from is None else logn_scale(position_ids[0], self.config.seq_length)

    @property
    def scaled_from(self) -> int | None:
        """As in `DecoderModel`: by log-n attention."""
        return self.config.seq_length - 1 if self.config.use_logn_attn and not self.training else None

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        images=None,
        labels=None,
        past_key_values: PastKeyValues | None = None,
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
        prompt = self.pack(input_ids, attention_mask, position_ids, images, past=past_key_values)
        loss, logits, cache = self.run(prompt, labels, past_key_values, use_cache)
        output = self.output_class(loss=loss, logits=logits, past_key_values=cache)
        return output if return_dict else output.to_tuple()

    def pack(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        images=None,
        past: PastKeyValues | None = None,
    ) -> PackedPrompt:
        """Take the padding out of a batch, put the pictures' features in; arguments as in `forward`."""
        mask, indices, cu_seqlens, ids = self.unpadded(input_ids, attention_mask)
        batch, length = input_ids.shape
        if position_ids is None and past is not None:
            position_ids, deltas = self.continued_positions(past, mask)
        elif position_ids is None:
            position_ids = paddle.arange(length).expand([1, batch, length])
            deltas = paddle.zeros([batch, 1], "int64")
        else:
            position_ids, deltas = position_ids.unsqueeze(0), position_ids.max(axis=1, keepdim=True) + 1 - length
        embeddings = self.transformer.wte(ids)
        visual, rows = self.config.visual, input_ids.numpy()
        slots = find_slots(rows, visual["image_start_id"], visual["n_queries"])
        if slots:
            pixels = pixels_of(rows, slots, images, visual)
            features = self.encode(images=to_device(pixels) if images is None else pixels)
            where = np.zeros([batch, length], bool)
            for slot in slots:
                where[slot.row, slot.start : slot.stop] = True
            where = to_device(where).flatten().index_select(indices)
            embeddings = put_features(embeddings, where, features)
        position_ids = position_ids.flatten(1).index_select(indices, axis=1)
        return PackedPrompt(embeddings, position_ids, indices, cu_seqlens, deltas, (batch, length))

    def encode(self, images):
        """Features `[pictures * n_queries, hidden]` of pictures."""
        return self.transformer.visual(images).flatten(0, 1)

    def encoding(self, images):
        """As in `DecoderModel`."""
        return self.transformer.visual.in_pieces(images)
