"""The commands' options."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from paddlemix_qwenvl.commands import options
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
    settings = options.Asking(max_new_tokens=8, temperature=temperature, seed=3).settings()
    assert settings == {
        "max_new_tokens": 8,
        "do_sample": do_sample,
        "temperature": temperature or None,
        "top_p": None,
        "seed": 3,
    }
