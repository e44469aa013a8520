"""One batch of the demo's training in Paddle and in PyTorch: the same losses and gradients.

python training_parity.py write FOLDER      in the package's environment
python training_parity.py compare FOLDER    in that of tests/reference/requirements.txt
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "demo"))

import lessons
from train_torch import Processor, stage, torch_batches

CONVERSATIONS = 6
TOLERANCE = 1e-4
lessons.POOL = 1


def compared(name: str) -> bool:
    """Parameters of which both models have one each."""
    return any(part in name for part in ("patch_embed", "o_proj", "attn.proj.weight", "on_"))


def write(folder: Path) -> None:
    import numpy as np
    import paddle
    from heads import PatchHeads
    from safetensors.numpy import save_file
    from train import answer_loss

    from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained("demo", dtype="float32")
    processor = Qwen2_5_VLProcessor.from_pretrained("demo")
    model.train()
    heads = PatchHeads(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(folder / "checkpoint"))
    processor.save_pretrained(str(folder / "checkpoint"))
    state = {f"heads {name}": value.numpy() for name, value in heads.state_dict().items()}
    save_file(state, folder / "checkpoint" / "trainer.safetensors")
    batch = next(lessons.scene_batches(processor, 0, 0, 0, stages=(stage(CONVERSATIONS),)))
    tensors = {name: paddle.to_tensor(values) for name, values in batch.items()}
    labels = {name: tensors.pop(name) for name in ("patch_labels", "patch_boxes")}
    answers = answer_loss(model, **tensors)
    ids = batch["input_ids"][batch["attention_mask"] > 0]
    patches = heads.loss(paddle.to_tensor(np.flatnonzero(ids == model.config.image_token_id)), **labels)
    (answers + patches).backward()
    named = {**dict(model.named_parameters()), **dict(heads.named_parameters())}
    norms = {
        name.replace("model.", "language.", 1): float(p.grad.norm()) for name, p in named.items() if compared(name)
    }
    expected = {"answers": float(answers), "patches": float(patches), **norms}
    (folder / "expected.json").write_text(json.dumps(expected))


def compare(folder: Path) -> int:
    from torch_trainer import Model, load

    checkpoint = folder / "checkpoint"
    config = json.loads((checkpoint / "config.json").read_text())
    batches = torch_batches(Processor(str(checkpoint)), config, str(folder), 0, 0, CONVERSATIONS)
    model = Model(checkpoint).train()
    answers, patches = model(load(next(batches)))
    (answers + patches).backward()
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters() if compared(name)}
    found = {"answers": float(answers), "patches": float(patches), **norms}
    expected = json.loads((folder / "expected.json").read_text())
    if found.keys() != expected.keys():
        print(f"FAILED, only on one side: {sorted(found.keys() ^ expected.keys())}")
        return 1
    worst = max(expected, key=lambda name: abs(found[name] / expected[name] - 1))
    apart = abs(found[worst] / expected[worst] - 1)
    print(
        f"{len(expected)} losses and norms of gradients differ by at most {apart:.1e} ({worst}); {TOLERANCE} is allowed"
    )
    return int(apart > TOLERANCE)


if __name__ == "__main__":
    sys.exit({"write": write, "compare": compare}[sys.argv[1]](Path(sys.argv[2])))
