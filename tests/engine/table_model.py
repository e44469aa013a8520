"""A language model that is nothing but a seeded table: every history of tokens has its own logits.

It keeps histories where an engine tells it to: in slots of a cache, read back through block tables. What is shared, copied or
given away wrongly shows in the tokens.
"""

import numpy as np
import paddle

from paddlemix_qwenvl.engine.capacity import blocks_needed
from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.events import Finished
from paddlemix_qwenvl.engine.generate import answer_batch
from paddlemix_qwenvl.engine.runner import Facts
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.models.prompts import Media, Prompt

PAD = 3
_NOTHING = -1


def plain_prompt(token_ids, media=()) -> Prompt:
    ids = np.asarray(token_ids, np.int64)
    return Prompt(ids, np.arange(ids.size)[None], ids.size, list(media))


def picture(content: int, places) -> Media:
    """A picture whose features are numbers that its content decides."""
    return Media(b"picture %d" % content, {"content": np.array([[content]])}, np.asarray(places, np.int64))


class TableModel:
    """Logits of `vocab` tokens, drawn with a deviation of `scale` from a generator that the history seeds."""

    pieces = 3  # that a picture is encoded in beside answers
    is_asynchronous = False

    def __init__(self, vocab: int, seed: int = 0, scale: float = 2.0, context: int = 10_000, dtype: str = "float32"):
        self.vocab, self.seed, self.scale = vocab, seed, scale
        self.facts = Facts(layers=1, kv_heads=1, head_dim=1, dtype=dtype, vocab_size=vocab, context=context)
        self.steps = self.tokens_computed = self.encoded = self.most_rows = 0

    def logits(self, history) -> np.ndarray:
        draws = np.random.default_rng([self.seed, *(int(token) for token in history)])
        return (self.scale * draws.standard_normal(self.vocab)).astype(np.float32)

    def log_probabilities(self, history) -> np.ndarray:
        logits = self.logits(history).astype(np.float64)
        return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()

    def free_memory(self) -> tuple[str, int]:
        return "cpu", 1 << 20

    def allocate(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.slots = np.full(num_blocks * block_size, _NOTHING, np.int64)

    def copy_blocks(self, pairs) -> None:
        blocks = self.slots.reshape([-1, self.block_size])
        for source, target in pairs:
            blocks[target] = blocks[source]

    def encode(self, media) -> list:
        self.encoded += len(media)
        return [paddle.to_tensor(feature_values(each)[:, None]) for each in media]

    def encoding(self, media):
        for _ in range(self.pieces - 1):
            yield None
        yield self.encode([media])[0]

    def step(self, inputs, features):
        self.steps += 1
        self.most_rows = max(self.most_rows, inputs.lengths.size)
        self.tokens_computed += inputs.ids.size
        ids = inputs.ids.copy()
        if inputs.source is not None:
            values = np.concatenate([ids, *(each.numpy()[:, 0] for each in features)])
            ids = values[inputs.source]
        assert len(set(inputs.slot_mapping.tolist())) == ids.size  # no slot is written twice
        self.slots[inputs.slot_mapping] = ids
        rows = []
        for wanted in inputs.wanted.tolist():
            row = int(np.searchsorted(inputs.cu_seqlens[1:], wanted, side="right"))
            length = int(inputs.lengths[row] - (inputs.cu_seqlens[row + 1] - 1 - wanted))
            places = np.arange(length)
            slots = inputs.block_tables[row][places // self.block_size] * self.block_size + places % self.block_size
            assert (self.slots[slots] != _NOTHING).all()
            rows.append(self.logits(self.slots[slots]))
        return paddle.to_tensor(np.stack(rows))


class Repeating(TableModel):
    """One that looks at the last token only, so that greedy answers go round and round."""

    def logits(self, history) -> np.ndarray:
        return super().logits(history[-1:])


def feature_values(media: Media) -> np.ndarray:
    """What a picture's features put in the place of its tokens."""
    content = int(next(iter(media.inputs.values())).flat[0])
    return 1000 + 100 * content + np.arange(media.places.size)


def history_of(prompt: Prompt) -> list[int]:
    """What the model sees of a prompt."""
    ids = prompt.token_ids.copy()
    for media in prompt.media:
        ids[media.places] = feature_values(media)
    return ids.tolist()


def greedy(model, prompt, count, eos=(), min_new=0, penalty=1.0) -> tuple[list[int], float]:
    """One answer, literally: its tokens up to an end token, and their mean log-probability."""
    history, scores = list(prompt), []
    for step in range(count):
        logits = model.logits(history).astype(np.float64)
        total = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
        penalised = logits.copy()
        for token in set(history) if penalty != 1 else ():
            penalised[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        if step < min_new:
            penalised[list(eos)] = -np.inf
        token = int(penalised.argmax())
        scores.append(logits[token] - total)
        history.append(token)
        if token in eos:
            break
    return history[len(prompt) :], float(np.mean(scores))


def request(prompt, media=(), settings=None, **options) -> Request:
    """A request of plain token ids; `settings` of the answer by name."""
    settings = GenerationSettings(**{"pad_token_id": PAD, **(settings or {})})
    return Request(plain_prompt(prompt, media), settings, **options)


def engine_of(model: TableModel | None = None, num_blocks: int = 50, **options) -> Engine:
    return Engine(model or TableModel(20), num_blocks, **{"block_size": 4, **options})


def events_of(engine: Engine) -> list:
    """All there is to tell, in order."""
    return list(engine.run())


def finished(events) -> dict[tuple[int, int], Finished]:
    """The end of each answer, by request and index."""
    return {(event.request_id, event.index): event for event in events if isinstance(event, Finished)}


def answer_of(engine: Engine, prompt, media=(), **settings) -> list[int]:
    """The tokens of one more request, alone."""
    engine.add(request(prompt, media, settings))
    return events_of(engine)[-1].token_ids


def generate(model, prompts, streamer=None, criteria=(), **settings) -> tuple[np.ndarray, np.ndarray]:
    """`answer_batch` of prompts, whose rows draw by seeds of their own."""
    seed, settings = settings.pop("seed", None), {"pad_token_id": PAD, **settings}
    requests = [
        request(prompt, settings={**settings, "seed": seed if seed is None else seed + row})
        for row, prompt in enumerate(prompts)
    ]
    sizes = [(len(prompt), each.settings, 4, False) for prompt, each in zip(prompts, requests, strict=True)]
    engine = Engine(
        model,
        sum(each.settings.width * blocks_needed(*size) for each, size in zip(requests, sizes, strict=True)),
        block_size=4,
        max_num_seqs=sum(each.settings.width for each in requests),
        max_num_batched_tokens=sum(map(len, prompts)),
        prefix_cache=False,
    )
    answer = answer_batch(engine, requests, np.array(prompts), streamer, criteria)
    assert engine.blocks.available == engine.blocks.num_blocks and not engine.busy
    return answer
