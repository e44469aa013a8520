"""The commands' options."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from paddlemix_qwenvl.commands import options
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.hub.sources import SOURCES


def test_the_scripts_take_a_picture_by_default():
    asked = []

    def ask(image_file: Annotated[list[str] | None, typer.Option("--image_file")] = None, question: str = "What?"):
        asked.append((image_file, question))

    app = typer.Typer()
    app.command()(options.with_defaults(ask, image_file=["a.png"]))
    for arguments in ([], ["--image_file", "b.png", "--image_file", "c.png"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert asked == [(["a.png"], "What?"), (["b.png", "c.png"], "What?")]


def test_a_group_becomes_its_options():
    taken = []

    @options.grouped
    def ask(asking: options.Asking, name: Annotated[str, typer.Option("--name")] = "demo"):
        taken.append((asking, name))

    app = typer.Typer()
    app.command()(options.with_defaults(ask, question="Why?"))
    assert CliRunner().invoke(app, ["--seed", "7", "--name", "x", "--json"]).exit_code == 0
    assert taken == [(options.Asking(question="Why?", seed=7, as_json=True), "x")]
    assert CliRunner().invoke(app, ["--asking", "x"]).exit_code == 2


def test_sources_are_the_hub_s():
    assert {source.value for source in options.Source} == set(SOURCES)


def test_what_is_given():
    assert options.given(source=options.Source.modelscope, from_hf_hub=False, dtype=None) == {"source": "modelscope"}
    assert options.given(source=None, from_hf_hub=True, quantization=options.Quantization.int8) == {
        "from_hf_hub": True,
        "quantization": "int8",
    }


@pytest.mark.parametrize(("temperature", "do_sample"), [(None, None), (0.0, False), (0.5, True)])
def test_a_temperature_of_0_takes_the_likeliest(temperature, do_sample):
    settings = options.Answering(max_new_tokens=8, temperature=temperature, seed=3, stop=["a"]).settings()
    left_open = ("top_k", "top_p", "min_p", "repetition_penalty", "prompt_lookup_num_tokens", "schema")
    assert settings == {
        **dict.fromkeys(left_open),
        "max_new_tokens": 8,
        "do_sample": do_sample,
        "temperature": temperature or None,
        "seed": 3,
        "stop_strings": ["a"],
    }


def test_a_schema_is_read_from_its_file(tmp_path):
    file = tmp_path / "schema.json"
    file.write_text('{"type": "object"}')
    assert options.Answering(schema=file).settings()["schema"] == {"type": "object"}
    for content in ("[1]", "{", "\xff"):
        file.write_bytes(content.encode("latin-1"))
        with pytest.raises(ConfigurationError, match=r"schema\.json"):
            options.Answering(schema=file).settings()


def test_what_is_said_of_pictures_and_videos():
    showing = options.Showing(min_pixels=56, max_pixels=784, fps=1.0, max_frames=8)
    assert showing.resizing() == {"min_pixels": 56, "max_pixels": 784}
    assert showing.sampling() == {"fps": 1.0, "max_frames": 8, "min_pixels": 56, "max_pixels": 784}
    assert options.Showing().sampling() == options.Showing().resizing() == {}


def test_what_the_model_is_told_first():
    assert options.Answering().beginning() == []
    assert options.Answering(system="Be \udcff.").beginning() == [{"role": "system", "content": "Be \ufffd."}]
