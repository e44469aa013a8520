"""Files and folders are written whole or not at all."""

import json
import threading

import pytest

from paddlemix_qwenvl.files import replace_folder, whole_file, whole_folder, write_json, write_text


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_under_its_own_name(tmp_path):
    path = tmp_path / "picture.png"
    with whole_file(path) as unfinished:
        assert unfinished.name == "picture.png" and not unfinished.exists()
        unfinished.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new" and names(tmp_path) == ["picture.png"]


def test_what_was_there_stays_if_writing_fails(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as unfinished:
        unfinished.write_text("half")
        _ = 1 / 0
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "old" and names(tmp_path) == ["a.json"]


def test_json(tmp_path):
    write_json(str(tmp_path / "a.json"), {"b": "星", "a": [1]}, ensure_ascii=False, sort_keys=True)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "a": [\n    1\n  ],\n  "b": "星"\n}\n'


def test_the_last_of_two_that_write_at_once_is_whole(tmp_path):
    path = tmp_path / "a.json"
    texts = [str(number) * 100_000 for number in range(8)]
    writers = [threading.Thread(target=write_text, args=(path, text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in texts and names(tmp_path) == ["a.json"]


def test_a_file_has_the_mode_of_any_other(tmp_path):
    write_text(tmp_path / "ours", "")
    (tmp_path / "other").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("before", [None, "file", "folder"])
def test_a_folder_takes_the_place_of_what_was_there(tmp_path, before):
    folder = tmp_path / "new" / "model"
    if before:
        folder.parent.mkdir()
    if before == "folder":
        folder.mkdir()
        (folder / "old").touch()
    elif before == "file":
        folder.touch()
    with whole_folder(folder) as unfinished:
        write_json(unfinished / "config.json", {})
    assert json.loads((folder / "config.json").read_text()) == {}
    assert names(folder) == ["config.json"] and names(folder.parent) == ["model"]


def test_a_folder_stays_if_filling_another_fails(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(ZeroDivisionError), whole_folder(folder) as unfinished:
        (unfinished / "half").touch()
        _ = 1 / 0
    assert names(folder) == ["old"] and names(tmp_path) == ["model"]


def test_a_folder_that_another_process_has_written_meanwhile_is_replaced(tmp_path):
    folder = tmp_path / "model"
    with whole_folder(folder) as first, whole_folder(folder) as second:
        (first / "first").touch()
        (second / "second").touch()
    assert names(folder) == ["first"] and names(tmp_path) == ["model"]


def test_a_folder_keeps_its_name_if_the_new_one_cannot_have_it(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(FileNotFoundError):
        replace_folder(folder, tmp_path / "nowhere")
    assert names(folder) == ["old"] and names(tmp_path) == ["model"]
