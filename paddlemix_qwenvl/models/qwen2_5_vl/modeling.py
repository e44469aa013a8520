"""Qwen2.5-VL (arXiv:2502.13923): vision tower and language model joined."""

from __future__ import annotations

import time
from dataclasses import dataclass

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddlenlp.transformers.model_outputs import ModelOutput

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.generation.decode import Step
from paddlemix_qwenvl.generation.settings import GenerationSettings
from paddlemix_qwenvl.layers.attention import AttentionContext
from paddlemix_qwenvl.layers.cache import KVCache
from paddlemix_qwenvl.layers.embedding import ParallelLMHead
from paddlemix_qwenvl.models.pretrained import QwenVLPretrainedModel
from paddlemix_qwenvl.models.qwen2_5_vl.configuration import Qwen2_5_VLConfig
from paddlemix_qwenvl.models.qwen2_5_vl.language import LanguageModel
from paddlemix_qwenvl.models.qwen2_5_vl.layout import rope_index
from paddlemix_qwenvl.models.qwen2_5_vl.vision import make_vision_tower

IGNORED = -100


@dataclass
class Qwen2_5_VLOutput(ModelOutput):
    """What `forward` returns.

    Attributes:
        loss: float32 scalar, with labels.
        logits: float32 `[B, S, vocab]`, zero at padding.
        past_key_values: the `KVCache`, with `use_cache`.
        rope_deltas: int64 `[B, 1]`, position of a row's next token less `S`.
    """

    loss: paddle.Tensor | None = None
    logits: paddle.Tensor | None = None
    past_key_values: KVCache | None = None
    rope_deltas: paddle.Tensor | None = None


@dataclass
class PackedPrompt:
    """A padded batch without its padding: `T` tokens of all rows.

    Attributes:
        embeddings: `[T, hidden]`, image and video features in their places.
        position_ids: int64 `[3, T]`.
        indices: int64 `[T]`, the tokens' places in the flattened `[B, S]`.
        cu_seqlens: int32 `[B + 1]`.
        rope_deltas: int64 `[B, 1]`.
    """

    embeddings: paddle.Tensor
    position_ids: paddle.Tensor
    indices: paddle.Tensor
    cu_seqlens: paddle.Tensor
    rope_deltas: paddle.Tensor


class Qwen2_5_VLForConditionalGeneration(QwenVLPretrainedModel):
    """Images, videos and text in, text out."""

    config_class = Qwen2_5_VLConfig
    _tied_weights_keys = ["lm_head.weight"]  # noqa: RUF012  (the host's own name and type)

    def __init__(self, config: Qwen2_5_VLConfig):
        super().__init__(config)
        self.visual = make_vision_tower(config.vision_config, config.vision_parallel)
        self.model = LanguageModel(config)
        tied_to = self.model.embed_tokens if config.tie_word_embeddings else None
        self.lm_head = ParallelLMHead(config.vocab_size, config.hidden_size, tied_to)
        self.optional_weights = frozenset({"lm_head.weight"} if config.tie_word_embeddings else ())

    def get_input_embeddings(self) -> nn.Layer:
        """The token embedding."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Layer:
        """The output head."""
        return self.lm_head

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
        past_key_values: KVCache | None = None,
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
            PromptError: placeholders and features do not match.
        """
        batch, length = input_ids.shape
        prompt = self.pack(
            input_ids,
            attention_mask,
            position_ids,
            pixel_values,
            image_grid_thw,
            pixel_values_videos,
            video_grid_thw,
            second_per_grid_ts,
            past_key_values,
        )
        cache = past_key_values
        if use_cache and cache is None:
            cache = self.allocate_cache(batch, length)
        hidden = self.model(prompt.embeddings, self.context(prompt, cache))
        logits = self.lm_head(hidden)
        loss = None if labels is None else packed_loss(logits, labels, prompt.indices)
        output = Qwen2_5_VLOutput(
            loss=loss,
            logits=ops.rebuild_padding(logits, prompt.indices, batch, length),
            past_key_values=cache,
            rope_deltas=prompt.rope_deltas,
        )
        return output if return_dict else tuple(value for value in output.values() if value is not None)

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
        cache: KVCache | None = None,
    ) -> PackedPrompt:
        """Take the padding out of a batch, put the features in, work out the positions; arguments as in `forward`."""
        batch, length = input_ids.shape
        mask = paddle.ones_like(input_ids) if attention_mask is None else attention_mask
        if list(mask.shape) != [batch, length]:
            raise PromptError(
                f"attention_mask is {list(mask.shape)} but input_ids is {[batch, length]}: give them one shape."
            )
        indices, cu_seqlens = ops.get_padding_offset(mask)
        if position_ids is None and cache is not None:
            position_ids, deltas = _continued(cache, mask)
        elif position_ids is None:
            position_ids, deltas = self.get_rope_index(
                input_ids, image_grid_thw, video_grid_thw, second_per_grid_ts, mask
            )
        else:
            deltas = position_ids.max(axis=[0, 2]).unsqueeze(-1) + 1 - length
        ids = input_ids.flatten().index_select(indices)
        embeddings = self.model.embed_tokens(ids)
        for token, values, grid in (
            (self.config.image_token_id, pixel_values, image_grid_thw),
            (self.config.video_token_id, pixel_values_videos, video_grid_thw),
        ):
            if values is not None:
                embeddings = put_features(embeddings, ids == token, self.encode(values, grid))
        position_ids = position_ids.flatten(1).index_select(indices, axis=1)
        return PackedPrompt(embeddings, position_ids, indices, cu_seqlens, deltas)

    def encode(self, pixel_values, grid_thw):
        """Features `[tokens, hidden]` of images or videos; adds the time to `vision_seconds`."""
        started = time.perf_counter()
        features = self.visual(pixel_values, grid_thw)
        self.vision_seconds = getattr(self, "vision_seconds", 0.0) + time.perf_counter() - started
        return features

    def allocate_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` rows of up to `capacity` tokens, in the weights' dtype."""
        heads = self.model.layers[0].self_attn.heads
        dtype = str(self.model.embed_tokens.weight.dtype).rpartition(".")[2]
        return KVCache.allocate(len(self.model.layers), batch, heads.num_kv_heads, capacity, heads.head_dim, dtype)

    def cache_numbers_per_token(self) -> int:
        """Numbers this rank keeps of one token: keys and values of all layers."""
        heads = self.model.layers[0].self_attn.heads
        return 2 * len(self.model.layers) * heads.num_kv_heads * heads.head_dim

    def context(self, prompt: PackedPrompt, cache: KVCache | None) -> AttentionContext:
        """Attention's view of a prompt, which fills `cache` further where one is given."""
        cos, sin = self.model.rotary_tables(prompt.position_ids)
        if cache is None:
            return AttentionContext(cos, sin, prompt.cu_seqlens)
        added = prompt.cu_seqlens[1:] - prompt.cu_seqlens[:-1]
        rows = paddle.repeat_interleave(paddle.arange(added.shape[0], dtype="int32"), added)
        first = (cache.lengths - prompt.cu_seqlens[:-1]).index_select(rows)
        slots = first + paddle.arange(rows.shape[0], dtype="int32")
        fresh, lengths = cache.empty, cache.lengths + added
        cache.extend(lengths, prompt.position_ids, prompt.cu_seqlens)
        return AttentionContext(cos, sin, prompt.cu_seqlens, cache, rows, slots, lengths, fresh=fresh)

    def prefill(self, settings: GenerationSettings, **inputs) -> Step:
        """Run the prompt and keep its keys and values, with room for `settings.max_new_tokens` more."""
        self.vision_seconds = 0.0
        input_ids = inputs["input_ids"]
        accepted = {name: inputs[name] for name in _PROMPT_INPUTS if inputs.get(name) is not None}
        prompt = self.pack(**accepted)
        cache = self.allocate_cache(input_ids.shape[0], input_ids.shape[1] + settings.max_new_tokens)
        hidden = self.model(prompt.embeddings, self.context(prompt, cache))
        last = hidden.index_select(prompt.cu_seqlens[1:] - 1)
        return Step(self.lm_head(last), cache, self.decode)

    def decode(self, token_ids, cache: KVCache):
        """Logits float32 `[B, vocab]` after one more token a row, `token_ids` int64 `[B]`."""
        batch = token_ids.shape[0]
        positions = cache.next_positions.unsqueeze(0).expand([3, batch])
        cos, sin = self.model.rotary_tables(positions)
        rows = paddle.arange(batch, dtype="int32")
        slots, lengths = cache.lengths, cache.lengths + 1
        context = AttentionContext(
            cos, sin, None, cache=cache, rows=rows, slots=slots, lengths=lengths, decoding=True, fresh=False
        )
        hidden = self.model(self.model.embed_tokens(token_ids), context)
        cache.lengths, cache.next_positions = lengths, cache.next_positions + 1
        return self.lm_head(hidden)


_PROMPT_INPUTS = (
    "input_ids",
    "attention_mask",
    "position_ids",
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)


def put_features(embeddings, where, features):
    """`embeddings` `[T, hidden]` with `features` at the places `where` (bool `[T]`), in order.

    Raises:
        PromptError: there are not as many places as features.
    """
    places = paddle.nonzero(where).flatten()
    if places.shape[0] != features.shape[0]:
        raise PromptError(
            f"the text has {places.shape[0]} image or video tokens but there are {features.shape[0]} features: pass the "
            f"processor's outputs on as they are, all of them from one call."
        )
    return paddle.scatter(embeddings, places, features.astype(embeddings.dtype))


def packed_loss(logits, labels, indices):
    """Mean cross entropy of packed `logits` `[T, vocab]` against the next token in `labels` `[B, S]`."""
    following = F.pad(labels[:, 1:], [0, 1], value=IGNORED).flatten().index_select(indices)
    total = F.cross_entropy(logits, following, ignore_index=IGNORED, reduction="sum")
    return total / (following != IGNORED).sum()  # Paddle's own mean counts ignored labels where the index is negative


def _continued(cache: KVCache, mask):
    """Positions of tokens that go on after a cache: text only."""
    steps = paddle.cumsum(mask.astype("int64"), axis=-1) - 1
    positions = (cache.next_positions.unsqueeze(-1) + steps).unsqueeze(0).expand([3, *mask.shape])
    return positions, (cache.next_positions.unsqueeze(-1) + steps[:, -1:] + 1 - mask.shape[1])


def _numpy(value):
    return value.numpy() if hasattr(value, "numpy") else value
