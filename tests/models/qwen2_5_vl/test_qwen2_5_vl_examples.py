"""The example scripts on the shipped demo, and what they make of the answers beside them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import paddlenlp  # noqa: F401  (some of the scripts need it)
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[3] / "examples" / "qwen2_5_vl"
INPUTS = FOLDER / "inputs"
SEEN = 512 * 28 * 28  # the pixels that the answers count on
SCRIPTS = sorted(FOLDER.glob("*.py"))


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs a script's `main` in a folder of its own; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)

    def run(name: str, **arguments) -> str:
        capsys.readouterr()
        load(FOLDER / f"{name}.py").main(**{"max_new_tokens": 8, **arguments})
        return capsys.readouterr().out

    return run


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_short(path):
    assert len(path.read_text().splitlines()) < 60


def test_several_images(run):
    assert run("multi_image_infer", number=False).strip()
    assert run("multi_image_infer", number=True, image_file=[str(INPUTS / "one.png")]).strip()


def test_a_batch(run):
    said = run("batch_infer", max_new_tokens=4)
    rows = {line[0] for line in said.splitlines() if line[1:3] == ": "}
    assert rows == {"0", "1", "2"}
    assert [said.count(f"{name}: ") for name in ("one.png", "two.png", "turned.jpg")] == [1, 1, 1]


def test_a_video(run):
    said = run("video_infer", answer_file=INPUTS / "film.txt", video_start=4.0, fps=1.0)
    assert said.startswith("8 frames from 4.00 to 11.90 s\ndemo answers: ")
    assert said.splitlines()[-3:] == [  # as counted from the part that was seen
        "4.00 - 8.00 s  A red circle drifts upwards.",
        "8.00 - 11.00 s  A blue square drifts upwards.",
        "11.00 - 16.00 s  A yellow star drifts upwards.",
    ]


def test_boxes_land_on_the_turned_picture(run):
    drawn = {  # where make_inputs.py drew them
        "蓝色的星形": (84, 508, 256, 680),
        "黄色的圆形": (364, 392, 704, 732),
        "绿色的方形": (832, 484, 992, 644),
    }
    said = run("grounding_infer", answer_file=INPUTS / "shapes_zh.txt", max_pixels=SEEN, output=Path("a/b.png"))
    found = [line.split(" ", 2) for line in said.splitlines() if line.startswith("box ")][-3:]
    for (_, label, coords), (wanted, box) in zip(found, drawn.items(), strict=True):
        assert label == wanted
        assert np.abs(np.subtract(json.loads(coords.replace("(", "[").replace(")", "]")), box)).max() < 1
    assert Image.open("a/b.png").size == (1120, 840)


def test_a_page(run):
    said = run("document_infer", answer_file=INPUTS / "page.html")
    assert "demo answers: " in said and "page.html answers: " in said
    lines = Path("output/page.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# How long is a day?"
    assert lines[4:9] == [
        "| Planet | Moons | Day, hours |",
        "| --- | --- | --- |",
        "| Earth | 1 | 23.9 |",
        "| Mars | 2 | 24.6 |",
        "| Jupiter | 95 | 9.9 |",
    ]
    assert Image.open("output/page.png").size == (800, 1040)


def test_an_agent(run):
    said = run("agent_infer", answer_file=INPUTS / "screen.txt", max_pixels=144 * 28 * 28)
    action = said.splitlines()[-1]
    assert action.startswith("mobile_use: click (")
    x, y = json.loads(action.partition("click ")[2].replace("(", "[").replace(")", "]"))
    assert (
        abs(x - 145) <= 2 and abs(y - 405) <= 2
    )  # the middle of "Yes, noon"; the model's pixels are 2.3 of the screen's
    assert Image.open("output/screen.png").size == (540, 1110)


@pytest.mark.parametrize(("script", "argument"), [("grounding_infer", "image_file"), ("video_infer", "video_file")])
def test_what_is_not_there(run, capsys, script, argument):
    from typer import Exit

    with pytest.raises(Exit):
        run(script, **{argument: "nowhere.png"})
    assert "error: " in (error := capsys.readouterr().err) and "nowhere.png" in error
