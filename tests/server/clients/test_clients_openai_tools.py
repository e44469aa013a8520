"""Tools and classes that answers are read as, by OpenAI's Python package. The demo calls tools where a grammar makes it."""

import json
from enum import Enum
from typing import Literal

import pytest
from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel, Field
from served import asked


class Paint(BaseModel):
    """Paints a shape."""

    shape: Literal["circle", "star"]
    times: int = Field(ge=1, le=3)


class Count(BaseModel):
    """Counts shapes."""

    colors: list[Literal["red", "blue"]] = Field(max_length=2)


class Color(str, Enum):
    red = "red"
    blue = "blue"


class Shape(BaseModel):
    color: Color
    sides: int = Field(ge=0, le=9)


class Scene(BaseModel):
    shapes: list[Shape] = Field(min_length=1, max_length=2)
    is_empty: bool


TOOLS = [pydantic_function_tool(Paint), pydantic_function_tool(Count)]


@pytest.fixture(scope="module")
def client(server):
    with OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "Paint"}}])
def test_a_tool_is_called_and_answered(client, shapes, choice):
    messages = asked("What do you see?", shapes)
    how = {"model": "demo", "tools": TOOLS, "parallel_tool_calls": False, "max_tokens": 800}
    answer = client.chat.completions.create(messages=messages, tool_choice=choice, **how).choices[0]
    (call,) = answer.message.tool_calls
    assert answer.finish_reason == "tool_calls" and answer.message.content is None
    kind = {"Paint": Paint, "Count": Count}[call.function.name]
    kind.model_validate_json(call.function.arguments)
    assert choice == "required" or kind is Paint
    messages += [answer.message.model_dump(exclude_none=True)]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "done"}]
    after = client.chat.completions.create(messages=messages, tool_choice="none", **how | {"max_tokens": 8})
    assert after.choices[0].message.tool_calls is None and after.usage.completion_tokens <= 8


def test_calls_come_in_a_stream(client, shapes):
    how = {"model": "demo", "messages": asked("What do you see?", shapes), "tools": TOOLS, "max_tokens": 800}
    how |= {"tool_choice": "required", "parallel_tool_calls": False, "temperature": 0}
    (whole,) = client.chat.completions.create(**how).choices[0].message.tool_calls
    name, pieces, reasons = "", [], []
    for chunk in client.chat.completions.create(**how, stream=True):
        reasons.append(chunk.choices[0].finish_reason)
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.index == 0
            name += call.function.name or ""
            pieces.append(call.function.arguments)
    assert name == whole.function.name and reasons[-1] == "tool_calls"
    assert "".join(pieces) == whole.function.arguments and len(pieces) > 2


def test_the_packages_own_stream_gathers_calls(client):
    how = {"model": "demo", "messages": asked("How many?"), "tools": TOOLS, "tool_choice": "required"}
    with client.chat.completions.stream(**how, parallel_tool_calls=False, max_tokens=800) as stream:
        kinds = {event.type for event in stream}
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Paint | Count)
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds


def test_an_answer_is_read_as_a_class(client, shapes):
    answer = client.chat.completions.parse(
        model="demo", messages=asked("What do you see?", shapes), response_format=Scene, max_tokens=800
    )
    message = answer.choices[0].message
    assert isinstance(message.parsed, Scene) and message.parsed == Scene.model_validate_json(message.content)


def test_a_stream_is_read_as_a_class(client, shapes):
    with client.chat.completions.stream(
        model="demo", messages=asked("What do you see?", shapes), response_format=Scene, max_tokens=800
    ) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Scene)


def test_calls_are_read_as_classes(client):
    answer = client.chat.completions.parse(
        model="demo", messages=asked("How many?"), tools=TOOLS, tool_choice="required", max_tokens=800
    )
    for call in answer.choices[0].message.tool_calls:
        assert isinstance(call.function.parsed_arguments, Paint | Count)


def test_any_object(client):
    answer = client.chat.completions.create(
        model="demo",
        messages=asked("How many?"),
        response_format={"type": "json_object"},
        max_tokens=100,
        extra_body={"structured_outputs": None},
    )
    choice = answer.choices[0]
    assert choice.message.content.lstrip().startswith("{")
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


def test_one_of_some_words(client, shapes):
    answer = client.chat.completions.create(
        model="demo",
        messages=asked("What do you see?", shapes),
        extra_body={"structured_outputs": {"choice": ["TAXI", "EXIT"]}},
    )
    assert answer.choices[0].message.content in ("TAXI", "EXIT")
