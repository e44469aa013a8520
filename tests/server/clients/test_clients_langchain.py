"""LangChain's chat model for OpenAI's interface, against the running server."""

import asyncio
from typing import Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

SEEN = "a green circle, two green stars and a blue star"


class Sign(BaseModel):
    """What a sign says."""

    word: Literal["TAXI", "EXIT"]


@tool
def paint(shape: Literal["circle", "star"]) -> str:
    """Paints a shape."""
    return f"painted a {shape}"


@pytest.fixture(scope="module")
def chat(server):
    return ChatOpenAI(model="demo", base_url=f"{server.address}/v1", api_key="none", max_retries=0, max_tokens=800)


def question(shapes: str, text: str = "What do you see?") -> HumanMessage:
    return HumanMessage([{"type": "image_url", "image_url": {"url": shapes}}, {"type": "text", "text": text}])


def test_an_answer(chat, shapes):
    answer = chat.invoke([SystemMessage("You are a helpful assistant."), question(shapes)])
    assert answer.content == SEEN and answer.response_metadata["finish_reason"] == "stop"
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] and usage["output_tokens"] == 12


def test_a_picture_in_langchains_own_form(chat, shapes):
    picture = {"type": "image", "base64": shapes.partition(",")[2], "mime_type": "image/png"}
    assert chat.invoke([HumanMessage([picture, {"type": "text", "text": "What do you see?"}])]).content == SEEN


def test_a_stream_with_its_usage(chat, shapes):
    chunks = [*chat.stream([question(shapes)], stream_usage=True)]
    whole = sum(chunks[1:], chunks[0])
    assert whole.content == SEEN and len(chunks) > 5 and whole.usage_metadata["output_tokens"] == 12


def test_several_at_once(chat, shapes):
    questions = [[question(shapes, text)] for text in ("What do you see?", "How many green shapes are there?")]
    assert [answer.content for answer in chat.batch(questions)] == [SEEN, "3"]
    assert [answer.content for answer in asyncio.run(chat.abatch(questions))] == [SEEN, "3"]


def test_a_tool_is_called_and_answered(chat):
    messages = [HumanMessage("How many?")]
    answer = chat.bind_tools([paint], tool_choice="any", strict=True, parallel_tool_calls=False).invoke(messages)
    (call,) = answer.tool_calls
    result = paint.invoke(call)
    assert isinstance(answer, AIMessage) and isinstance(result, ToolMessage) and result.content.startswith("painted a")
    after = chat.bind_tools([paint], tool_choice="none").invoke([*messages, answer, result], max_tokens=8)
    assert not after.tool_calls and after.usage_metadata["output_tokens"] <= 8


def test_a_call_comes_in_a_stream(chat):
    chunks = [*chat.bind_tools([paint], tool_choice="paint", strict=True).stream("How many?")]
    assert sum(chunks[1:], chunks[0]).tool_calls[0]["args"]["shape"] in ("circle", "star")


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_answer_is_read_as_a_class(chat, shapes, method):
    assert isinstance(chat.with_structured_output(Sign, method=method, strict=True).invoke([question(shapes)]), Sign)
