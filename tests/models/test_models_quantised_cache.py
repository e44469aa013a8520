"""What `quantization` makes of a checkpoint, kept on disk for the next load."""

import json
import os
import re
import shutil
from threading import BrokenBarrierError

import hub_model
import paddle
import pytest
import quantised_files as files
from filelock import FileLock
from paddlenlp.transformers import PretrainedModel
from test_parallel import on_all_ranks, ranks_of, together

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.models import quantised_cache
from paddlemix_qwenvl.models.qwen2_5_vl import FAMILY

MODEL = Qwen2_5_VLForConditionalGeneration
CONFIG = hub_model.config(
    hidden_size=128,
    intermediate_size=192,
    rope_scaling={"type": "mrope", "mrope_section": [4, 6, 6]},
    vision_config={"out_hidden_size": 128},
)
IDS = paddle.to_tensor([[5, 77, 200, 31, 8, 9, 41]])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Its folder."""
    monkeypatch.setenv(quantised_cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "quantised"


@pytest.fixture
def source(tmp_path):
    return files.write(tmp_path / "source", CONFIG, hub_model.tensors(CONFIG))


def spoil(folder):
    """Other content of weights that says that it is the old: nobody may read it."""
    for path in folder.glob("*.safetensors"):
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def state(model) -> dict:
    """All that a model holds, by name, and how."""
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}, model.formats()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("quantization", ["int8", "int4", "fp8"])
def test_the_second_load_reads_what_was_kept(tmp_path, cache, caplog, quantization, tied, dtype):
    config = {**CONFIG, "tie_word_embeddings": tied}
    source = files.write(tmp_path / "source", config, hub_model.tensors(config))
    first = MODEL.from_pretrained(source, quantization=quantization, dtype=dtype)
    assert re.search(
        rf"The {quantization} weights are kept for the next load, \d\.\d MB in {cache}/source-", caplog.text
    )
    spoil(source)
    again = MODEL.from_pretrained(source, quantization=quantization, dtype=dtype)
    assert state(again) == state(first)
    assert again.config.quantization is None and again.config == first.config
    assert (
        MODEL.from_pretrained(source, quantization=quantization, dtype=dtype)(IDS).logits == first(IDS).logits
    ).all()
    assert len(caplog.records) == 1
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        MODEL.from_pretrained(source, quantization=quantization, dtype="float16")


def test_what_one_host_kept_is_read_by_another_and_by_none(cache, source):
    """PaddleNLP's config has dozens of fields of its own."""
    first = MODEL.from_pretrained(source, quantization="int4")
    spoil(source)
    core = FAMILY.load("model")
    assert not issubclass(core, PretrainedModel) and issubclass(MODEL, PretrainedModel)
    assert state(core.from_pretrained(source, quantization="int4")) == state(first)
    assert len([*cache.iterdir()]) == 1


def test_a_source_that_changed_is_quantised_anew(cache, source, caplog):
    MODEL.from_pretrained(source, quantization="int4")
    tensors = hub_model.tensors(CONFIG)
    changed = {name: value * 2 if name.endswith("up_proj.weight") else value for name, value in tensors.items()}
    files.write(source, CONFIG, changed)
    model = MODEL.from_pretrained(source, quantization="int4")
    spoil(source)
    assert state(MODEL.from_pretrained(source, quantization="int4")) == state(model)
    assert len(caplog.records) == 2 and len([*cache.iterdir()]) == 1
    with pytest.raises(CheckpointError, match="not a readable"):  # another config is another model
        MODEL.from_pretrained(source, quantization="int4", rms_norm_eps=1e-5)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def other_header(path):
    path.write_bytes(path.read_bytes().replace(b"up_proj", b"no_proj", 1))


def other_settings(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": files.METHODS["awq"]}))


DAMAGES = {  # what is changed, how, and what is said of it; no line where the sizes tell
    "cut": ("model.safetensors", cut, ""),
    "other names": ("model.safetensors", other_header, "does not fit the model"),
    "settings of another": ("source.json", other_settings, "does not fit"),
    "no record": ("source.json", lambda path: path.unlink(), ""),
    "no JSON": ("source.json", lambda path: path.write_text("[" * 100_000), ""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_anew(cache, source, caplog, damage):
    name, spoilt, why = DAMAGES[damage]
    first = state(MODEL.from_pretrained(source, quantization="int8"))
    (entry,) = cache.iterdir()
    spoilt(entry / "weights" / name)
    caplog.clear()
    assert state(MODEL.from_pretrained(source, quantization="int8")) == first
    *said, kept = [record.getMessage() for record in caplog.records]
    assert len(said) == bool(why) and kept.startswith("The int8 weights are kept")
    for line in said:
        assert line.startswith(f"{entry / 'weights'} cannot be read and is made anew: ") and why in line
        assert "\n" not in line
    spoil(source)
    assert state(MODEL.from_pretrained(source, quantization="int8")) == first


def test_what_a_cut_left_is_removed(cache, source, monkeypatch, caplog):
    def end(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(quantised_cache, "write_json", end)
        with pytest.raises(KeyboardInterrupt):
            MODEL.from_pretrained(source, quantization="int8")
    (entry,) = cache.iterdir()
    assert not (entry / "weights").exists()
    (entry / ".unfinished-1").mkdir()
    MODEL.from_pretrained(source, quantization="int8")
    assert {path.name for path in entry.iterdir()} == {"lock", "weights"}
    assert len(caplog.records) == 1


def test_another_process_that_writes_is_let(cache, source, caplog):
    MODEL.from_pretrained(source, quantization="int8")
    (entry,) = cache.iterdir()
    shutil.rmtree(entry / "weights")
    caplog.clear()
    with FileLock(entry / "lock"):
        assert MODEL.from_pretrained(source, quantization="int8")(IDS).logits.shape[1] == 7
    assert not (entry / "weights").exists() and not caplog.records


def test_a_full_disk_and_no_folder_are_a_line(tmp_path, cache, source, monkeypatch, caplog):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    MODEL.from_pretrained(source, quantization="int8")
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.match(
        r"The int8 weights are not kept for the next load: they take \d\.\d MB and .* has 0\.0 MB left", line
    )
    (tmp_path / "file").touch()
    monkeypatch.setenv(quantised_cache.VARIABLE, str(tmp_path / "file"))
    MODEL.from_pretrained(source, quantization="int8")
    assert "not kept for the next load: [Errno" in caplog.records[1].getMessage()


def test_off(cache, source, monkeypatch, caplog):
    monkeypatch.setenv(quantised_cache.VARIABLE, "off")
    MODEL.from_pretrained(source, quantization="int8")
    assert not cache.exists() and not caplog.records


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_each_rank_keeps_its_part(cache, source, quantization, caplog):
    def load(rank):
        return MODEL.from_pretrained(source, quantization=quantization)

    def loaded():
        ranks = ranks_of(2)
        return together(ranks, load, ranks)

    first = loaded()
    spoil(source)
    again = loaded()
    assert [state(model) for model in again] == [state(model) for model in first]
    with pytest.raises(CheckpointError, match="is split over ranks"):
        again[0].save_pretrained(source)
    logits = [on_all_ranks(models, lambda model: model(IDS).logits.numpy()) for models in (first, again)]
    assert (logits[0][0] == logits[1][0]).all()
    shutil.rmtree(next(cache.iterdir()))  # one rank's: all quantise anew
    with pytest.raises((CheckpointError, BrokenBarrierError)):  # what a rank says, or one that waited for it
        loaded()
