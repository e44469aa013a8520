"""What benchmark.py times: every CUDA kernel on one set of sizes, and the same by PyTorch."""

import torch
import torch.nn.functional as F
from machine import Gpu, kv_cache, rows_of

DEVICE = "cuda"
BLOCK_SIZE = 64  # slots of a block of the KV cache


class Case:
    """One kernel on one set of sizes. Subclasses say what it takes and what PyTorch makes of it."""

    def __init__(self, gpu: Gpu, dtype: torch.dtype):
        self.gpu, self.dtype, self.name = gpu, dtype, str(dtype).rpartition(".")[2]

    def draw(self, *shape, dtype=None):
        return torch.randn(shape, device=DEVICE).to(dtype or self.dtype)

    def inputs(self) -> dict:
        """Fresh tensors."""
        raise NotImplementedError

    def outputs(self, x: dict) -> list:
        """Where the kernel writes; NaN or -1 everywhere."""
        raise NotImplementedError

    def kernel(self, x: dict, out: list) -> None:
        raise NotImplementedError

    def torch(self, x: dict) -> list:
        """The same by PyTorch."""
        raise NotImplementedError

    def bytes(self, x: dict, out: list) -> int:
        return sum(t.numel() * t.element_size() for t in (*x.values(), *out))

    def run(self, name: str, *arguments):
        pointers = [t.data_ptr() if isinstance(t, torch.Tensor) else t for t in arguments]
        status = self.gpu.status(name, *pointers)
        assert status == 0, f"{name} returned the CUDA error {status}"


def poisoned(*shape, dtype):
    return torch.full(shape, float("nan") if dtype.is_floating_point else -1, dtype=dtype, device=DEVICE)


class LayerNorm(Case):
    """layer norm of a sum, 16384 rows of 1664"""

    def inputs(self):
        rows, size = 16384, 1664
        return {
            "x": self.draw(rows, size),
            "residual": self.draw(rows, size),
            "weight": self.draw(size),
            "bias": self.draw(size),
        }

    def outputs(self, x):
        return [poisoned(*x["x"].shape, dtype=self.dtype) for _ in range(2)]

    def kernel(self, x, out):
        rows, size = x["x"].shape
        self.run("layer_norm", *x.values(), self.name, 1e-5, rows, size, *out)

    def torch(self, x):
        total = x["x"] + x["residual"]
        return [total, F.layer_norm(total, total.shape[-1:], x["weight"], x["bias"], 1e-5)]


def rotated(x, cos, sin):
    first, second = x.float().chunk(2, -1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


class Rotary(Case):
    """rotary embedding, 16384 tokens, 16 and 2 heads of 128"""

    TOKENS, HEADS, KV_HEADS, HEAD_DIM = 16384, 16, 2, 128

    def tables(self):
        angles = torch.rand(self.TOKENS, self.HEAD_DIM // 2, device=DEVICE) * 6
        return {"cos": angles.cos(), "sin": angles.sin()}

    def inputs(self):
        q, k = (self.draw(self.TOKENS, heads, self.HEAD_DIM) for heads in (self.HEADS, self.KV_HEADS))
        return {"q": q, "k": k, **self.tables()}

    def outputs(self, x):
        return [poisoned(*x[name].shape, dtype=self.dtype) for name in "qk"]

    def kernel(self, x, out):
        sizes = self.TOKENS, self.HEADS, self.KV_HEADS, self.HEAD_DIM
        self.run("rotary", *x.values(), self.name, *sizes, *out)

    def torch(self, x):
        return [rotated(x[name], x["cos"], x["sin"]) for name in "qk"]


class QkvSplit(Rotary):
    """packed qkv to rotated q, k and v, the same sizes"""

    def inputs(self):
        return {"qkv": self.draw(self.TOKENS, (self.HEADS + 2 * self.KV_HEADS) * self.HEAD_DIM), **self.tables()}

    def outputs(self, x):
        heads = self.HEADS, self.KV_HEADS, self.KV_HEADS
        return [poisoned(self.TOKENS, count, self.HEAD_DIM, dtype=self.dtype) for count in heads]

    def kernel(self, x, out):
        sizes = self.TOKENS, self.HEADS, self.KV_HEADS, self.HEAD_DIM
        self.run("qkv_split", *x.values(), self.name, *sizes, *out)

    def torch(self, x):
        parts = x["qkv"].view(self.TOKENS, -1, self.HEAD_DIM).split([self.HEADS, self.KV_HEADS, self.KV_HEADS], 1)
        return [*(rotated(part, x["cos"], x["sin"]) for part in parts[:2]), parts[2].contiguous()]


class VisionSplit(QkvSplit):
    """packed qkv to rotated q, k and v, 16384 patches, 16 heads of 80"""

    KV_HEADS, HEAD_DIM = 16, 80


class QkvWriteCache(QkvSplit):
    """packed qkv to rotated q and the KV cache, 4 rows of 4096 tokens"""

    def inputs(self):
        tables = block_tables(4, 4096)
        slots = tables.unsqueeze(-1) * BLOCK_SIZE + torch.arange(BLOCK_SIZE, device=DEVICE, dtype=torch.int32)
        return {**super().inputs(), "slots": slots.flatten()}

    def outputs(self, x):
        shape = self.TOKENS // BLOCK_SIZE, self.KV_HEADS, BLOCK_SIZE, self.HEAD_DIM
        caches = [poisoned(*shape, dtype=self.dtype) for _ in range(2)]
        return [poisoned(self.TOKENS, self.HEADS, self.HEAD_DIM, dtype=self.dtype), *caches]

    def kernel(self, x, out):
        cache = kv_cache_of(*out[1:], self.name)
        qkv, cos, sin, slots = x.values()
        self.run("qkv_write_cache", qkv, cos, sin, cache, slots, self.TOKENS, self.HEADS, out[0])

    def torch(self, x):
        q, k, v = super().torch(x)
        return [q, *(self.blocks(part, x["slots"]) for part in (k, v))]

    def blocks(self, tokens, slots):
        """Tokens [T, Hkv, D] in the blocks where the slots are, which are whole ones."""
        blocks = tokens.view(-1, BLOCK_SIZE, self.KV_HEADS, self.HEAD_DIM).transpose(1, 2)
        return torch.empty_like(blocks, memory_format=torch.contiguous_format).index_copy_(
            0, slots[::BLOCK_SIZE].long() // BLOCK_SIZE, blocks
        )


class WriteCache(QkvWriteCache):
    """keys and values to the KV cache, 4 rows of 4096 tokens, 2 heads of 128"""

    def inputs(self):
        x = super().inputs()
        k, v = (self.draw(self.TOKENS, self.KV_HEADS, self.HEAD_DIM) for _ in range(2))
        return {"k": k, "v": v, "slots": x["slots"]}

    def outputs(self, x):
        return super().outputs(x)[1:]

    def kernel(self, x, out):
        k, v, slots = x.values()
        self.run("write_cache", k, v, kv_cache_of(*out, self.name), slots, self.TOKENS)

    def torch(self, x):
        return [self.blocks(x[name], x["slots"]) for name in "kv"]


def block_tables(rows: int, slots: int):
    """Blocks of rows of so many slots, anywhere among all: int32 [rows, blocks]."""
    blocks = torch.randperm(rows * slots // BLOCK_SIZE, device=DEVICE, dtype=torch.int32)
    return blocks.view(rows, -1)


def kv_cache_of(k, v, dtype: str):
    """The structure for tensors [blocks, Hkv, block size, D]."""
    return kv_cache(*(Named(t, dtype) for t in (k, v)))


class Named:
    """A tensor as `kv_cache` and `rows_of` want it."""

    def __init__(self, tensor, dtype: str = "int32"):
        self.pointer, self.shape, self.dtype = tensor.data_ptr(), tuple(tensor.shape), dtype


class GatherRows(Case):
    """rows of a padded batch to packed ones, 12288 of 16384 rows of 2048"""

    def inputs(self):
        kept = torch.randperm(16384, device=DEVICE)[:12288].sort().values
        return {"x": self.draw(16384, 2048), "indices": kept}

    def outputs(self, x):
        return [poisoned(12288, 2048, dtype=self.dtype)]

    def kernel(self, x, out):
        self.run("gather_rows", x["x"], x["indices"], 12288, 16384, 2048 * self.dtype.itemsize, *out)

    def torch(self, x):
        return [x["x"].index_select(0, x["indices"])]

    def bytes(self, x, out):
        return 2 * out[0].numel() * self.dtype.itemsize


class ScatterRows(GatherRows):
    """packed rows back to a padded batch"""

    def inputs(self):
        return {**super().inputs(), "x": self.draw(12288, 2048)}

    def outputs(self, x):
        return [poisoned(16384, 2048, dtype=self.dtype)]

    def kernel(self, x, out):
        self.run("scatter_rows", x["x"], x["indices"], 12288, 16384, 2048 * self.dtype.itemsize, *out)

    def torch(self, x):
        return [torch.zeros(16384, 2048, dtype=self.dtype, device=DEVICE).index_copy_(0, x["indices"], x["x"])]

    def bytes(self, x, out):
        return (x["x"].numel() + out[0].numel()) * self.dtype.itemsize


class Decode(Case):
    """attention to the cache, 8 rows of 4096 slots, 16 heads of 128 on 2 kv heads"""

    ROWS, SLOTS, HEADS, KV_HEADS, HEAD_DIM = 8, 4096, 16, 2, 128

    def inputs(self):
        shape = self.ROWS * self.SLOTS // BLOCK_SIZE, self.KV_HEADS, BLOCK_SIZE, self.HEAD_DIM
        k, v = (self.draw(*shape) for _ in range(2))
        lengths = torch.full([self.ROWS], self.SLOTS, device=DEVICE, dtype=torch.int32)
        tables = block_tables(self.ROWS, self.SLOTS)
        for cache in (k, v):  # what PyTorch's operation takes: [B, Hkv, slots, D]
            rows = cache[tables.long()].transpose(1, 2)
            cache.rows = rows.reshape(self.ROWS, self.KV_HEADS, self.SLOTS, self.HEAD_DIM)
        q = self.draw(self.ROWS, self.HEADS, self.HEAD_DIM)
        return {"q": q, "k": k, "v": v, "tables": tables, "lengths": lengths}

    def paged(self, x):
        """The structures of the cache and of the rows."""
        return kv_cache_of(x["k"], x["v"], self.name), rows_of(*(Named(x[name]) for name in ("tables", "lengths")))

    def outputs(self, x):
        size = self.gpu.status("attention_scratch", *self.paged(x), self.ROWS, self.HEADS)
        self.scratch = poisoned(max(size // 4, 1), dtype=torch.float32)
        return [poisoned(*x["q"].shape, dtype=self.dtype)]

    def kernel(self, x, out):
        scale = self.HEAD_DIM**-0.5
        self.run("decode_attention", x["q"], *self.paged(x), self.HEADS, scale, self.scratch, *out)

    def torch(self, x):
        keys, values = x["k"].rows, x["v"].rows
        out = F.scaled_dot_product_attention(x["q"].unsqueeze(2), keys, values, enable_gqa=True)
        return [out.squeeze(2)]


class DecodeOneRow(Decode):
    """attention to the cache, 1 row of 8192 slots"""

    ROWS, SLOTS = 1, 8192


class DecodeLong(Decode):
    """attention to the cache, 8 rows of 32768 slots, 16 heads of 128 on 2 kv heads"""

    SLOTS = 32768


class Decode7B(Decode):
    """attention to the cache, 8 rows of 4096 slots, 28 heads of 128 on 4 kv heads"""

    HEADS, KV_HEADS = 28, 4


class Sample(Case):
    """a token of 151936, temperature 0.8, top-k 50, top-p 0.9, 8 rows"""

    TEMPERATURE, TOP_K, TOP_P = 0.8, 50, 0.9

    def inputs(self):
        logits = self.draw(8, 151936, dtype=torch.float32) * 3
        how = torch.tensor([[self.TEMPERATURE, self.TOP_K, self.TOP_P, 0, 1, 0, 0]] * 8, device=DEVICE)
        return {"logits": logits, "settings": how, "uniform": torch.rand(8, device=DEVICE)}

    def outputs(self, x):
        size = self.gpu.status("sample_scratch", None, *x["logits"].shape)
        self.scratch = poisoned(size // 4, dtype=torch.float32)
        return [poisoned(8, dtype=torch.int64), poisoned(8, dtype=torch.float32)]

    def kernel(self, x, out):
        self.run("sample", *x.values(), None, None, *x["logits"].shape, self.scratch, *out)

    def torch(self, x):
        logits = x["logits"].double() / self.TEMPERATURE
        logits = logits.where(logits >= logits.topk(self.TOP_K).values[:, -1:], -torch.inf)
        weights = logits.softmax(-1)
        ranked = weights.sort(-1, descending=True).values
        kept = ranked.cumsum(-1) - ranked < self.TOP_P
        weights = weights.where(weights >= ranked.where(kept, 2.0).amin(-1, keepdim=True), 0.0)
        cumulative = weights.cumsum(-1)
        tokens = (cumulative <= x["uniform"].double().unsqueeze(-1) * cumulative[:, -1:]).sum(-1)
        logs = x["logits"].log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return [tokens, logs]


class SampleLikeliest(Sample):
    """the likeliest token of 151936, 8 rows"""

    TEMPERATURE = 0

    def torch(self, x):
        logs, tokens = x["logits"].log_softmax(-1).max(-1)
        return [tokens, logs]


CASES = [
    LayerNorm,
    Rotary,
    QkvSplit,
    VisionSplit,
    QkvWriteCache,
    WriteCache,
    GatherRows,
    ScatterRows,
    Decode,
    DecodeOneRow,
    DecodeLong,
    Decode7B,
    Sample,
    SampleLikeliest,
]
