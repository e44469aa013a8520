"""Weight files of every layout into the model and out again, against files written by the safetensors library itself."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import hub_model
import numpy as np
import paddle
import pytest
from hub_model import as_paddle_lays_them, assert_same, held_tensors, saved_tensors, widened
from numpy_model import NumpyModel
from safetensors import safe_open

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError, ParallelError
from paddlemix_qwenvl.weights.casts import to_bfloat16

CONFIG = hub_model.config()
INDEX = "model.safetensors.index.json"
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
MODEL = Qwen2_5_VLForConditionalGeneration


# ---- layouts


def test_hub_layout_in_one_file(hub_folder, hub_tensors, tmp_path):
    assert_same(held_tensors(MODEL.from_pretrained(hub_folder), tmp_path), hub_tensors)


@pytest.mark.parametrize("count", [2, 5])
def test_hub_layout_in_shards(hub_tensors, tmp_path, count):
    hub_model.write_shards(tmp_path / "in", CONFIG, hub_tensors, count)
    assert_same(held_tensors(MODEL.from_pretrained(tmp_path / "in"), tmp_path / "out"), hub_tensors)


@pytest.mark.parametrize("layout", ["np", "pd"])
def test_paddle_layout_square_weights_included(hub_tensors, tmp_path, layout):
    square = [name for name, value in hub_tensors.items() if value.ndim == 2 and len(set(value.shape)) == 1]
    assert {Q_PROJ, "visual.blocks.0.attn.proj.weight", "visual.merger.mlp.0.weight"} <= set(square)
    hub_model.write(tmp_path / "in", CONFIG, as_paddle_lays_them(hub_tensors), layout)
    assert_same(held_tensors(MODEL.from_pretrained(tmp_path / "in"), tmp_path / "out"), hub_tensors)


def test_orientation_comes_from_metadata_alone(hub_tensors, tmp_path):
    """The very bytes of a square weight mean the one thing in a Hub file and its transpose in a Paddle file."""
    hub_model.write(tmp_path / "np", CONFIG, as_paddle_lays_them(hub_tensors) | {Q_PROJ: hub_tensors[Q_PROJ]}, "np")
    held = held_tensors(MODEL.from_pretrained(tmp_path / "np"), tmp_path / "out")
    np.testing.assert_array_equal(held[Q_PROJ], hub_tensors[Q_PROJ].T)


@pytest.mark.parametrize("layout", [None, "tf", ""])
@pytest.mark.parametrize("laid", [dict, as_paddle_lays_them], ids=["hub", "paddle"])
def test_shapes_tell_the_layout_where_the_metadata_do_not(hub_tensors, tmp_path, layout, laid):
    hub_model.write(tmp_path / "in", CONFIG, laid(hub_tensors), layout)
    assert_same(held_tensors(MODEL.from_pretrained(tmp_path / "in"), tmp_path / "out"), hub_tensors)


def test_layouts_that_only_some_shards_name(hub_tensors, tmp_path):
    weight_map = hub_model.write_shards(tmp_path / "in", CONFIG, hub_tensors, 2)
    silent = weight_map[Q_PROJ]
    part = {name: value for name, value in hub_tensors.items() if weight_map[name] == silent}
    hub_model.write(tmp_path / "in", CONFIG, part, None, silent)
    assert_same(held_tensors(MODEL.from_pretrained(tmp_path / "in"), tmp_path / "out"), hub_tensors)


def test_paddle_layout_in_shards(hub_tensors, tmp_path):
    hub_model.write_shards(tmp_path / "in", CONFIG, as_paddle_lays_them(hub_tensors), 3, "pd")
    assert_same(held_tensors(MODEL.from_pretrained(tmp_path / "in"), tmp_path / "out"), hub_tensors)


def test_what_is_loaded_computes_the_same_as_a_literal_model(hub_folder, hub_tensors):
    ids = np.array([5, 77, 200, 31, 8])
    logits = MODEL.from_pretrained(hub_folder)(paddle.to_tensor(ids[None])).logits.numpy()[0]
    wanted = NumpyModel(CONFIG, hub_tensors).logits(ids)
    assert np.abs(logits - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(
    "prefixes",
    [("model.", "model.language_model."), ("visual.", "model.visual."), ("model.", "language_model.model.")],
    ids=" to ".join,
)
def test_longer_names(hub_tensors, tmp_path, prefixes):
    short, long = prefixes
    renamed = {long + k.removeprefix(short) if k.startswith(short) else k: v for k, v in hub_tensors.items()}
    assert set(renamed) != set(hub_tensors)
    hub_model.write(tmp_path / "in", CONFIG, renamed)
    assert_same(held_tensors(MODEL.from_pretrained(tmp_path / "in"), tmp_path / "out"), hub_tensors)


@pytest.mark.parametrize("stored", [False, True], ids=["without lm_head", "with lm_head"])
def test_tied_head(tmp_path, stored):
    config = hub_model.config(tie_word_embeddings=True)
    tensors = hub_model.tensors(config)
    extra = {"lm_head.weight": tensors["model.embed_tokens.weight"]} if stored else {}
    hub_model.write(tmp_path / "in", config, tensors | extra)
    model = MODEL.from_pretrained(tmp_path / "in")
    ids = np.array([3, 1, 4, 1, 5])
    wanted = NumpyModel(config, tensors).logits(ids)
    assert np.abs(model(paddle.to_tensor(ids[None])).logits.numpy()[0] - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert_same(held_tensors(model, tmp_path / "out"), tensors)
    assert MODEL.from_pretrained(tmp_path / "out").config.tie_word_embeddings is True


# ---- dtypes


def write_pdparams(folder: Path, tensors: dict) -> Path:
    hub_model.write_config(folder, CONFIG)
    state = {name: paddle.to_tensor(np.ascontiguousarray(v)) for name, v in as_paddle_lays_them(tensors).items()}
    paddle.save(state, str(folder / "model_state.pdparams"))
    return folder


def test_pdparams_only_when_pickle_is_allowed(hub_tensors, tmp_path):
    folder = write_pdparams(tmp_path / "in", hub_tensors)
    with pytest.raises(CheckpointError, match=r"model_state\.pdparams is not loaded.*pickle.*allow_pickle=True"):
        MODEL.from_pretrained(folder)
    model = MODEL.from_pretrained(folder, allow_pickle=True)
    assert_same(held_tensors(model, tmp_path / "out"), hub_tensors)


def test_pdparams_in_bfloat16(hub_tensors, tmp_path):
    hub_model.write_config(tmp_path / "in", CONFIG)
    tensors = {name: paddle.to_tensor(np.ascontiguousarray(v)) for name, v in as_paddle_lays_them(hub_tensors).items()}
    paddle.save({k: v.astype("bfloat16") for k, v in tensors.items()}, str(tmp_path / "in" / "model_state.pdparams"))
    held = held_tensors(MODEL.from_pretrained(tmp_path / "in", allow_pickle=True), tmp_path / "out")
    assert_same(held, {name: widened(to_bfloat16(value)) for name, value in hub_tensors.items()})


def test_pickle_is_not_run_before_it_is_refused(tmp_path):
    hub_model.write_config(tmp_path, CONFIG)
    path, told = tmp_path / "model_state.pdparams", tmp_path / "ran"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(told).encode() + b"'\ntR.")
    with pytest.raises(CheckpointError, match="pickle"):
        MODEL.from_pretrained(tmp_path)
    assert not told.exists()


def test_safetensors_go_before_pdparams(hub_tensors, tmp_path):
    hub_model.write(tmp_path, CONFIG, hub_tensors)
    (tmp_path / "model_state.pdparams").write_bytes(b"no pickle at all")
    MODEL.from_pretrained(tmp_path)


# ---- saving


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_and_loaded_again(hub_folder, tmp_path, dtype):
    first = held_tensors(MODEL.from_pretrained(hub_folder, dtype=dtype), tmp_path / "one")
    again = MODEL.from_pretrained(tmp_path / "one")
    assert again.config.dtype == dtype
    assert again.generation_config.eos_token_id == [hub_model.IDS["<|im_end|>"], hub_model.IDS["<|endoftext|>"]]
    assert_same(held_tensors(again, tmp_path / "two"), first)


def test_what_is_saved_is_read_by_the_safetensors_library(model, hub_tensors, tmp_path):
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert_same({name: file.get_tensor(name) for name in file.keys()}, hub_tensors)  # noqa: SIM118, it is no dict
    assert not list(tmp_path.glob(".*"))


def test_shards_keep_to_their_size_and_the_index_names_them(model, hub_tensors, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size=100_000)
    assert_same(saved_tensors(tmp_path), hub_tensors)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in hub_tensors.values())
    assert set(index["weight_map"]) == set(hub_tensors)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))] and len(files) > 3
    for file in files:
        names = [name for name, where in index["weight_map"].items() if where == file]
        with safe_open(tmp_path / file, "numpy") as opened:
            assert sorted(opened.keys()) == sorted(names)
        size = sum(hub_tensors[name].nbytes for name in names)
        assert size <= 100_000 or len(names) == 1, file
    assert_same(held_tensors(MODEL.from_pretrained(tmp_path), tmp_path / "again"), hub_tensors)


def test_saving_again_leaves_no_file_of_the_last_time(model, hub_tensors, tmp_path):
    for size, single in (("60KB", False), ("5GB", True), ("200KB", False), ("60KB", False)):
        model.save_pretrained(tmp_path, max_shard_size=size)
        assert (tmp_path / INDEX).exists() is not single
        assert (tmp_path / "model.safetensors").exists() is single
        assert_same(saved_tensors(tmp_path), hub_tensors)
        MODEL.from_pretrained(tmp_path)


def test_files_of_others_stay(model, tmp_path):
    for name in ("model_lora.safetensors", "adapter.safetensors", "notes.txt"):
        (tmp_path / name).write_text("kept")
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes() == b"kept"} == {
        "model_lora.safetensors",
        "adapter.safetensors",
        "notes.txt",
    }


def test_generation_settings_are_saved_whatever_the_host_thinks_of_them(hub_tensors, tmp_path):
    odd = {"do_sample": False, "temperature": 0.1, "top_p": 0.001, "eos_token_id": [5, 6], "repetition_penalty": 1.05}
    hub_model.write(tmp_path / "in", CONFIG, hub_tensors)
    (tmp_path / "in" / "generation_config.json").write_text(json.dumps(odd))
    MODEL.from_pretrained(tmp_path / "in").save_pretrained(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert odd.items() <= written.items()
    assert MODEL.from_pretrained(tmp_path / "out").generation_config.temperature == 0.1


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"torch_dtyp": "bfloat16"}, "'torch_dtype' comes nearest"),
        ({"num_hidden_layer": 2}, "'num_hidden_layers' comes nearest"),
        ({"device_map": "auto"}, "paddle.set_device"),
        ({"attn_implementation": "flash_attention_2"}, "leave it out"),
        ({"load_in_8bit": True}, 'quantization="int8"'),
        ({"use_safetensors": False}, ""),
        ({"ignore_mismatched_sizes": True}, ""),
        ({"foo": 0}, "leave it out"),
    ],
    ids=str,
)
def test_arguments_that_nobody_knows(hub_folder, given, hint):
    (name,) = given
    with pytest.raises(ConfigurationError, match=f"from_pretrained knows no argument '{name}' .*{hint}"):
        MODEL.from_pretrained(hub_folder, **given)
    with pytest.raises(ConfigurationError, match=f"from_config knows no argument '{name}'"):
        MODEL._from_config(Qwen2_5_VLConfig(**CONFIG), **given)


def test_arguments_that_ask_for_what_is_done_anyway(hub_folder):
    asked = {"low_cpu_mem_usage": True, "trust_remote_code": True, "use_safetensors": True, "convert_from_torch": False}
    nothing = {"device_map": None, "ignore_mismatched_sizes": False, "load_state_as_np": True, "state_dict": None}
    model = MODEL.from_pretrained(hub_folder, **asked, **nothing, tensor_parallel_degree=1, tensor_parallel_output=True)
    assert model.config.tensor_parallel_output is True


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "torch.float16"}, "float16"),
        ({"torch_dtype": "auto"}, "float32"),
        ({"dtype": "auto"}, "float32"),
        ({"dtype": paddle.bfloat16}, "bfloat16"),
        ({"dtype": "float16", "torch_dtype": "bfloat16"}, "float16"),
    ],
    ids=str,
)
def test_a_dtype_under_each_of_its_names(hub_folder, given, dtype):
    model = MODEL.from_pretrained(hub_folder, **given)
    assert dtype_name(model.lm_head.weight.dtype) == model.config.dtype == dtype
    made = MODEL._from_config(Qwen2_5_VLConfig(**CONFIG), **given)
    assert dtype_name(made.lm_head.weight.dtype) == dtype


def test_a_degree_that_was_not_launched(hub_folder):
    with pytest.raises(ParallelError, match=r"tensor_parallel_degree is 2 but .* 1 rank\(s\): leave it out"):
        MODEL.from_pretrained(hub_folder, tensor_parallel_degree=2)


def test_arguments_without_a_name(hub_folder):
    for given in (("float32",), ()):
        with pytest.raises(ConfigurationError, match=r"expected a Qwen2_5_VLConfig as config=\.\.\. at most"):
            MODEL.from_pretrained(hub_folder, *given, config={"vocab_size": 3})


def test_more_blocks_than_the_checkpoint_has_tensors(hub_folder, monkeypatch):
    monkeypatch.setattr(MODEL, "without_memory", lambda *args: pytest.fail("a model of 1003 blocks was made"))
    with pytest.raises(CheckpointError, match=r"too few for the 1003 blocks of the config"):
        MODEL.from_pretrained(hub_folder, num_hidden_layers=1000)


def test_saving_over_the_folder_it_was_loaded_from(hub_tensors, tmp_path):
    hub_model.write(tmp_path, CONFIG, hub_tensors)
    assert_same(held_tensors(MODEL.from_pretrained(tmp_path), tmp_path), hub_tensors)


def test_a_file_is_no_folder_to_save_into(model, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError, match=r"taken is a file: give a folder"):
        model.save_pretrained(tmp_path / "taken")


# ---- memory


MEASURE = """
import sys
import paddle
from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration as Model

def status(key):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(key))

Model.from_pretrained(sys.argv[1] + "/small")
for run in sys.argv[2:]:
    layout, dtype = run.split()
    open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
    before = status("VmRSS")
    model = Model.from_pretrained(sys.argv[1] + "/" + layout, dtype=dtype)
    print(run, status("VmHWM") - before, sum(p.numel().item() * p.element_size() for p in model.parameters()))
    del model
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")
def test_loading_takes_the_memory_of_the_parameters(hub_tensors, tmp_path):
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 8, "vocab_size": 12000}
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
    config = hub_model.config(num_hidden_layers=2, **sizes, **rope, vision_config={"out_hidden_size": 1024})
    tensors = {name: np.full(shape, 0.5, np.float32) for name, shape in hub_model.shapes(config).items()}
    hub_model.write(tmp_path / "small", CONFIG, hub_tensors)
    hub_model.write(tmp_path / "pt", config, tensors)
    hub_model.write(tmp_path / "pd", config, as_paddle_lays_them(tensors), "pd")
    runs = {"pt float32": 4, "pt bfloat16": 2, "pd float32": 4}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), *runs],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    shutil.rmtree(tmp_path)
    lines = done.stdout.splitlines()[-len(runs) :]
    assert [line.rsplit(None, 2)[0] for line in lines] == list(runs)
    for line, width in zip(lines, runs.values(), strict=True):
        peak, size = map(int, line.split()[-2:])
        assert size == width * sum(value.size for value in tensors.values()) >= width * 55e6
        assert peak <= 1.15 * size, f"{line}: {peak / size:.2f} times the parameters"
