"""All files of a model from each source: resumed, checked, of one revision, and from the cache without any request."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from standin.loopback import commit_of
from standin.stored import ENDPOINTS, INDEX, NAME, SHARDS, write_model

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import CheckpointError, DownloadError
from paddlemix_qwenvl.hub import transfer

WEIGHTS = (INDEX, "model.safetensors", "model_state.pdparams")
FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")  # the model has no generation_config.json
each_source = pytest.mark.parametrize("source", ENDPOINTS)
each_folder = pytest.mark.parametrize("source", ["paddlenlp", "modelscope", "aistudio"])


def load(source, **options):
    """The folder of a model as `from_pretrained` brings it."""
    hub.fetch(NAME, ("config.json", "adapter_config.json"), source=source, **options)
    return hub.snapshot(NAME, WEIGHTS, FILES, source=source, **options)


def contents(folder):
    """File name -> content, without the marks of what is absent."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _small_chunks(monkeypatch):
    """What comes before a cut is written in chunks of these bytes."""
    monkeypatch.setattr(transfer, "CHUNK", 1000)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)


def leftovers(homes):
    return [path.name for path in homes.rglob("*.incomplete")]


@each_source
def test_everything_comes_and_comes_once(source, requests, stored, homes):
    folder = load(source)
    assert contents(folder) == contents(stored)
    assert leftovers(homes) == []
    got = [request for request in requests if "/contents/" not in request and "/repo/files" not in request]
    gets = [request for request in got if request.startswith("GET")]
    assert len(gets) == len({*gets}) == len(contents(stored))
    del requests[:]
    assert load(source) == folder and requests == []  # what is absent is remembered, too


@each_source
def test_offline(source, requests, monkeypatch):
    folder = load(source)
    (folder / "tokenizer.json").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    del requests[:]
    assert load(source) == folder
    (folder / SHARDS[0]).unlink()
    with pytest.raises(DownloadError, match=r"model.* of .* HF_HUB_OFFLINE forbids to download"):
        load(source)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids"):
        hub.fetch("someone/else", "config.json", source=source)
    assert requests == []


@each_source
def test_a_download_that_is_cut_goes_on(source, requests, faults, stored, monkeypatch):
    _small_chunks(monkeypatch)
    faults[SHARDS[1]] = 20_000
    assert contents(load(source)) == contents(stored)
    assert sum("from 20000" in request for request in requests) == 1


@each_folder
def test_a_later_run_goes_on(source, requests, faults, stored, homes, monkeypatch):
    _small_chunks(monkeypatch)
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    faults[SHARDS[1]] = 20_000
    message = f"{SHARDS[1]} of .* it broke off after 20000 bytes .* the next run goes on from there"
    with pytest.raises(DownloadError, match=message):
        load(source)
    assert len(leftovers(homes)) == 1
    assert contents(load(source)) == contents(stored)
    assert any("from 20000" in request for request in requests)
    assert leftovers(homes) == []


@pytest.mark.parametrize("source", ["paddlenlp", "modelscope", "huggingface"])
def test_a_damaged_file_is_not_kept(source, requests, faults, stored, homes):
    faults[SHARDS[0]] = "damaged"
    with pytest.raises(DownloadError, match=f"{SHARDS[0]} of .* came damaged"):
        load(source)
    assert not [path for path in homes.rglob(f"{SHARDS[0]}*") if path.suffix != ".lock"]
    del faults[SHARDS[0]]
    assert contents(load(source)) == contents(stored)


def test_another_size_than_promised(requests, faults):
    faults[SHARDS[0]] = "longer"
    with pytest.raises(DownloadError, match=r"has 50019 bytes there, where its source promised 50020"):
        load("modelscope")


@each_source
def test_a_cache_that_is_half_there_is_completed(source, requests, stored):
    folder = load(source)
    (folder / SHARDS[1]).unlink()
    (folder / "tokenizer.json").unlink()
    del requests[:]
    assert contents(load(source)) == contents(stored)
    gets = [request for request in requests if request.startswith("GET") and "/contents/" not in request]
    assert not any(SHARDS[0] in request for request in gets)


@each_folder
def test_no_file_joins_those_of_an_older_revision(source, requests, models, tmp_path, stored):
    folder = load(source)
    (folder / SHARDS[1]).unlink()
    models[NAME] = write_model(tmp_path / "newer", version=222)
    with pytest.raises(DownloadError, match=r"config\.json of another revision than .* force_download=True"):
        load(source)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DownloadError, match="another revision"):
        hub.gather(NAME, ["tokenizer.json"], source=source)
    assert contents(folder) == {
        name: data for name, data in contents(stored).items() if name not in (SHARDS[1], "tokenizer.json")
    }
    assert contents(load(source, force_download=True)) == contents(models[NAME])


@each_folder
@pytest.mark.parametrize("changed", ["config.json", INDEX])
def test_an_interrupted_replacement_leaves_no_mixture(
    source, changed, requests, models, faults, tmp_path, stored, monkeypatch
):
    load(source)
    models[NAME] = write_model(tmp_path / "newer", version=222)
    if changed == INDEX:  # the weights alone are new
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(stored / file, models[NAME] / file)
    faults[SHARDS[0]] = "damaged" if source == "modelscope" else 10
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    with pytest.raises(DownloadError, match=SHARDS[0]):
        load(source, force_download=True)
    faults.clear()
    assert contents(load(source)) == contents(models[NAME])


@each_folder
def test_the_weights_stay_where_a_tokenizers_file_alone_is_new(source, requests, stored):
    load(source)
    (stored / "tokenizer_config.json").write_text('{"tokens": "new"}')
    assert contents(load(source, force_download=True)) == contents(stored)


@each_source
def test_a_snapshot_alone_fetched_anew(source, requests, models, tmp_path):
    load(source)
    models[NAME] = write_model(tmp_path / "newer", version=222)
    folder = hub.snapshot(NAME, WEIGHTS, FILES, source=source, force_download=True)
    assert contents(folder) == contents(models[NAME])


def test_the_hubs_files_are_of_the_commit_in_the_cache(requests, models, tmp_path, stored, homes):
    folder = load("huggingface")
    (folder / SHARDS[1]).unlink()
    models[NAME] = write_model(tmp_path / "newer", version=222)
    assert load("huggingface") == folder and contents(folder) == contents(stored)
    newer = load("huggingface", force_download=True)
    assert newer.name == commit_of(models[NAME]) and contents(newer) == contents(models[NAME])


@pytest.mark.parametrize("source", ["paddlenlp", "modelscope"])
def test_a_weight_file_that_is_not_the_sources(source, requests, stored):
    folder = load(source)
    (folder / SHARDS[0]).write_bytes(b"short")
    (folder / SHARDS[1]).unlink()
    assert contents(load(source)) == contents(stored)


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_revision(source, requests, stored):
    revision = commit_of(stored)
    folder = load(source, revision=revision)
    assert folder.name == revision and contents(folder) == contents(stored)
    assert all(revision in request for request in requests)


@each_source
def test_cache_dir_and_subfolder(source, requests, stored, tmp_path, homes):
    shutil.copytree(stored, tmp_path / "inside")
    (tmp_path / "inside").rename(stored / "part")
    folder = load(source, cache_dir=tmp_path / "cache", subfolder="part")
    assert folder.name == "part" and contents(folder) == contents(stored / "part")
    assert folder.is_relative_to(tmp_path / "cache") and not homes.exists()


def test_one_file_of_weights(requests, stored):
    for file in (INDEX, *SHARDS):
        (stored / file).unlink()
    with pytest.raises(DownloadError, match=f"the weights of .* it has none of {INDEX}, model"):
        load("paddlenlp")
    (stored / "model_state.pdparams").write_bytes(b"weights")
    assert contents(load("paddlenlp")) == contents(stored)


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {"a": "../x.bin"}}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index(index, requests, stored):
    (stored / INDEX).write_text(index)
    with pytest.raises(CheckpointError, match=r"is no index of weight files|names the weight file"):
        load("paddlenlp")


def test_no_space(requests, monkeypatch, homes):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**5, 10**5 - 50, 50))
    with pytest.raises(DownloadError, match=r"need 0\.0 GB more, and .* has 0\.0 GB left: free some, or .* cache_dir"):
        load("paddlenlp")


def test_a_disk_that_fills(requests, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(transfer.os, "replace", full)
    with pytest.raises(DownloadError, match=r"no space is left for .*: free some, and run it again"):
        load("paddlenlp")


@each_source
def test_a_cache_that_cannot_be_written(source, requests, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"file.* cannot be written .*: choose another folder with cache_dir"):
        load(source, cache_dir=tmp_path / "file" / "cache")


def test_two_processes_at_once(requests, stored):
    code = (
        "from paddlemix_qwenvl import hub\n"
        f"for _ in range(2): folder = hub.snapshot({NAME!r}, ({INDEX!r},), source='paddlenlp')\n"
        "print(folder)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(folders) == 1
    assert contents(Path(folders.pop())) == {name: data for name, data in contents(stored).items() if "model" in name}
    gets = [request for request in requests if request.startswith("GET")]
    assert sorted(gets) == sorted({*gets})
