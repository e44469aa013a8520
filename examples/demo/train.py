"""Trains the demo checkpoint from scratch on drawn scenes, or fine-tunes a checkpoint on scenes or on your own pictures.

python train.py --output outputs/demo
python -m paddle.distributed.launch --nproc_per_node 2 --backend gloo train.py   # data parallel, here on two cores
python train.py --model demo --kinds heart star --steps 300 --output outputs/heart
python train.py --model PATH --data pictures/train.jsonl --lora 16 --output outputs/mine
"""

import argparse
import functools
import json
import os
import time
from pathlib import Path

os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")  # the fast path of Paddle's MKL, on AMD too: three times the speed

import numpy as np
import paddle
import paddle.distributed as dist
import paddle.nn.functional as F
import scenes
import tokenizer as demo_tokenizer
from heads import PatchHeads
from lessons import CURRICULUM, IGNORED, file_batches, in_background, scene_batches
from lora import add_lora, merged
from muon import Muon
from patches import WEIGHT
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from paddlemix_qwenvl.files import whole_folder
from paddlemix_qwenvl.layers.attention import AttentionContext

ADAM_STATE = ("moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0")
VOCABULARY = 832  # the tokenizer's, rounded up


def demo_config(ids: dict[str, int]) -> Qwen2_5_VLConfig:
    """A miniature with every part of the real architecture. A low rotary base lets it tell its few columns and rows apart."""
    return Qwen2_5_VLConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_theta=8.0,
        rope_scaling={"type": "mrope", "mrope_section": [4, 6, 6]},
        tie_word_embeddings=True,
        initializer_range=0.05,
        vision_config={
            "depth": 4,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": 128,
            "fullatt_block_indexes": [1, 3],
        },
        pad_token_id=ids["<|endoftext|>"],
        **demo_tokenizer.hub.config_ids(ids),
    )


def new_model(config: Qwen2_5_VLConfig) -> Qwen2_5_VLForConditionalGeneration:
    """An untrained model whose blocks add nothing to the residual stream at first."""
    model = Qwen2_5_VLForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
            parameter.set_value(paddle.zeros_like(parameter))
    return model


def answer_loss(model, input_ids, labels, weights=None, **inputs):
    """The model's loss, with logits for the answers alone: three tokens in four are not in them.

    `weights` [B, S] are those of the labels; 1 each if not given.
    """
    prompt = model.pack(input_ids, **inputs)
    cos, sin, _ = model.position_tables(prompt.position_ids)
    hidden = model.model(prompt.embeddings, AttentionContext(cos, sin, prompt.cu_seqlens))
    following = F.pad(labels[:, 1:], [0, 1], value=IGNORED).flatten().index_select(prompt.indices)
    places = paddle.nonzero(following != IGNORED).flatten()
    logits, expected = model.lm_head(hidden.index_select(places)), following.index_select(places)
    if weights is None:
        return F.cross_entropy(logits, expected)
    weights = F.pad(weights[:, 1:], [0, 1]).flatten().index_select(prompt.indices).index_select(places)
    return (F.cross_entropy(logits, expected, reduction="none").squeeze() * weights).sum() / weights.sum()


def average_gradients(parameters) -> None:
    """Mean of the gradients over the processes."""
    flat = paddle.concat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    parts = (flat / dist.get_world_size()).split([p.size for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad.set_value(part.reshape(parameter.shape))


class Trainer:
    """From scratch Muon for the matrices and AdamW for the rest, else AdamW alone; warm-up, plateau, then down to zero.

    Args:
        learning_rate: AdamW's. Muon's is six times that.
        decay: share of the steps in which the rate goes down.
        heads: what the patches of drawn scenes are asked with, or None.
    """

    def __init__(
        self, model, steps: int, learning_rate: float, decay: float, from_scratch: bool, adapters=(), heads=None
    ):
        self.model, self.steps, self.learning_rate, self.decay = model, steps, learning_rate, decay
        self.adapters, self.heads = list(adapters), heads
        trainable = [(name, p) for name, p in model.named_parameters() if not p.stop_gradient]
        self.parameters = [p for _, p in trainable] + (heads.parameters() if heads else [])
        matrices = [p for name, p in trainable if from_scratch and p.ndim == 2 and "embed_tokens" not in name]
        in_muon = {id(p) for p in matrices}
        self.muon = Muon(matrices)
        self.rest = [p for p in self.parameters if id(p) not in in_muon]
        self.adam = paddle.optimizer.AdamW(0.0, 0.9, 0.98, parameters=self.rest, weight_decay=0.0)
        self.step, self.seconds, self.patch_loss = 0, 0.0, 0.0

    def rate(self) -> float:
        """Factor of the learning rate at this step."""
        left = (self.steps - self.step) / max(1, self.decay * self.steps)
        return max(0.0, min(1.0, (self.step + 1) / 50, left))

    def train(self, batch: dict[str, np.ndarray]) -> float:
        """One step on a batch; returns the answers' loss."""
        started = time.perf_counter()
        tensors = {name: paddle.to_tensor(value) for name, value in batch.items()}
        patches = {name: tensors.pop(name) for name in ("patch_labels", "patch_boxes") if name in tensors}
        loss = total = answer_loss(self.model, **tensors)
        if self.heads:
            ids = batch["input_ids"][batch["attention_mask"] > 0]
            places = paddle.to_tensor(np.flatnonzero(ids == self.model.config.image_token_id))
            asked = self.heads.loss(places, **patches)
            total, self.patch_loss = loss + WEIGHT * asked, float(asked)
        total.backward()
        if dist.get_world_size() > 1:
            average_gradients(self.parameters)
        rate = self.rate() * self.learning_rate
        self.muon.step(rate * 20 / 3)
        self.adam.set_lr(rate)
        self.adam.step()
        for parameter in self.parameters:
            parameter.clear_gradient(False)
        self.step += 1
        self.seconds += time.perf_counter() - started
        return float(loss)

    def save(self, folder: Path, processor) -> None:
        """Model, processor and training state into `folder`, whole or not at all."""
        with whole_folder(folder) as part:
            with merged(self.model, self.adapters):
                self.model.save_pretrained(str(part))
            processor.save_pretrained(str(part))
            save_file({name: value.numpy() for name, value in self.state_dict().items()}, part / "trainer.safetensors")
            (part / "trainer.json").write_text(json.dumps({"step": self.step, "seconds": self.seconds}))

    def state_dict(self) -> dict[str, paddle.Tensor]:
        """Everything but the model's weights that the next steps depend on, under names that outlive the process."""
        adam = self.adam.state_dict()
        moments = {f"adam {i} {part}": adam[f"{p.name}_{part}"] for i, p in enumerate(self.rest) for part in ADAM_STATE}
        adapters = {
            f"lora {i} {k}": v for i, a in enumerate(self.adapters) for k, v in (("down", a.down), ("up", a.up))
        }
        heads = {f"heads {name}": value for name, value in self.heads.state_dict().items()} if self.heads else {}
        return {**moments, **self.muon.state_dict(), **adapters, **heads}

    def resume(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        state = load_file(folder / "trainer.safetensors")
        self.muon.set_state_dict(state)
        own = {(i, part): f"{p.name}_{part}" for i, p in enumerate(self.rest) for part in ADAM_STATE}
        self.adam.set_state_dict({own[key]: paddle.to_tensor(state[f"adam {key[0]} {key[1]}"]) for key in own})
        for number, adapter in enumerate(self.adapters):
            adapter.down.set_value(state[f"lora {number} down"])
            adapter.up.set_value(state[f"lora {number} up"])
        for name, parameter in self.heads.state_dict().items() if self.heads else ():
            parameter.set_value(state[f"heads {name}"])
        progress = json.loads((folder / "trainer.json").read_text())
        self.step, self.seconds = progress["step"], progress["seconds"]


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/demo"), help="checkpoints go here; goes on from one"
    )
    parser.add_argument("--model", help="checkpoint to fine-tune: a folder or a name; without it, from scratch")
    parser.add_argument("--data", type=Path, help="conversations to train on, JSON lines; without it, drawn scenes")
    parser.add_argument("--batch", type=int, default=8, help="conversations of --data a step and process")
    parser.add_argument("--kinds", nargs="+", default=scenes.SHAPES, help="shapes in the drawn scenes")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK", help="train adapters of this rank only")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--learning-rate", type=float, help="0.001 from scratch or with LoRA, else 0.0002")
    parser.add_argument("--decay", type=float, default=0.4, help="share of the steps in which the rate goes down")
    parser.add_argument("--save-every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    paddle.seed(arguments.seed)
    if dist.get_world_size() > 1:
        dist.init_parallel_env()
    rank, checkpoint = dist.get_rank(), arguments.output / "checkpoint"
    from_scratch, resuming = arguments.model is None, checkpoint.exists()
    start = arguments.model if arguments.lora or not resuming else str(checkpoint)
    processor_folder = arguments.model or str(arguments.output / f"processor-{rank}")
    ids = demo_tokenizer.save_processor(processor_folder) if from_scratch else None
    if start:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(start, dtype="float32")
    else:
        model = new_model(demo_config(ids))
    processor = Qwen2_5_VLProcessor.from_pretrained(processor_folder)
    adapters = add_lora(model, arguments.lora) if arguments.lora else []
    model.train()
    rate = arguments.learning_rate or (0.001 if from_scratch or adapters else 0.0002)
    heads = PatchHeads(model) if from_scratch else None
    trainer = Trainer(model, arguments.steps, rate, arguments.decay, from_scratch, adapters, heads)
    if resuming:
        trainer.resume(checkpoint)
    open_processor = functools.partial(Qwen2_5_VLProcessor.from_pretrained, processor_folder)
    if arguments.data:
        source = (
            file_batches,
            open_processor,
            str(arguments.data),
            arguments.batch,
            arguments.seed,
            rank,
            trainer.step,
        )
    else:
        stages = CURRICULUM if from_scratch else CURRICULUM[-1:]
        lessons = (arguments.seed, rank, trainer.step, arguments.kinds, stages, from_scratch)
        source = (scene_batches, open_processor, *lessons)
    run(trainer, in_background(*source), arguments, processor, rank)


def run(trainer: Trainer, batches, arguments: argparse.Namespace, processor, rank: int) -> None:
    """Train to the last step, with a progress bar, a curve in curve.jsonl and checkpoints (all by rank 0)."""
    losses, progress = (
        [],
        tqdm(total=arguments.steps, initial=trainer.step, unit="step", mininterval=5, disable=rank > 0),
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    with open(arguments.output / "curve.jsonl" if rank == 0 else os.devnull, "a", encoding="utf-8") as curve:
        while trainer.step < arguments.steps:
            losses.append(trainer.train(next(batches)))
            progress.update()
            if trainer.step % 20 == 0:
                mean, losses = sum(losses) / len(losses), []
                progress.set_postfix(loss=f"{mean:.4f}")
                point = {"step": trainer.step, "loss": round(mean, 5), "patches": round(trainer.patch_loss, 3)}
                point["seconds"] = round(trainer.seconds)
                print(json.dumps(point), file=curve, flush=True)
            if rank == 0 and (trainer.step % arguments.save_every == 0 or trainer.step == arguments.steps):
                trainer.save(arguments.output / "checkpoint", processor)


if __name__ == "__main__":
    main()
