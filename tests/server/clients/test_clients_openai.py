"""OpenAI's Python package as it comes, against the running server."""

import asyncio
import json

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from served import FILM, asked, data_uri, new_picture, wait_until

ROUNDING = 1e-4  # of a log probability
SEEN = "a green circle, two green stars and a blue star"
QUESTIONS = {
    "What do you see?": SEEN,
    "How many green shapes are there?": "3",
    "Locate the green circle.": '```json\n[\n\t{"bbox_2d": [144, 141, 186, 183], "label": "green circle"}\n]\n```',
}


@pytest.fixture(scope="module")
def client(server):
    with OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"


def test_a_picture_is_described(client, shapes):
    answer = client.chat.completions.create(model="demo", messages=asked("What do you see?", shapes))
    assert answer.object == "chat.completion" and answer.model == "demo"
    assert [(choice.message.content, choice.finish_reason) for choice in answer.choices] == [(SEEN, "stop")]
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (89, 12, 101)
    assert usage.prompt_tokens_details.image_tokens == 63


def test_what_came_before_is_not_computed_again(client):
    picture = data_uri(new_picture(1, side=224))
    first, second = (
        client.chat.completions.create(model="demo", messages=asked("What do you see?", picture)).usage
        for _ in range(2)
    )
    assert first.prompt_tokens == second.prompt_tokens
    assert first.prompt_tokens_details.cached_tokens == 0
    assert 0 < second.prompt_tokens_details.cached_tokens < second.prompt_tokens


def test_a_conversation_goes_on(client, shapes):
    messages = asked("What do you see?", shapes)
    messages += [{"role": "assistant", "content": SEEN}, *asked("How many green shapes are there?")]
    answer = client.chat.completions.create(model="demo", messages=messages)
    assert answer.choices[0].message.content == "3"


def test_a_video_is_shown(client):
    content = [
        {"type": "video_url", "video_url": {"url": data_uri(FILM.read_bytes(), "video/mp4")}, "nframes": 4},
        {"type": "text", "text": "What do you see?"},
    ]
    answer = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": content}], max_tokens=4)
    assert answer.usage.completion_tokens <= 4
    assert answer.usage.prompt_tokens > answer.usage.prompt_tokens_details.image_tokens > 0


def test_a_stream_tells_the_same(client, shapes):
    stream = client.chat.completions.create(
        model="demo",
        messages=asked("What do you see?", shapes),
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = stream
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant" and all(chunk.usage is None for chunk in chunks)
    assert "".join(delta.content or "" for delta in deltas) == SEEN and len(deltas) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert last.choices == [] and last.usage.total_tokens == 101
    assert len({chunk.id for chunk in [*chunks, last]}) == 1


def test_many_ask_at_once(server, shapes):
    async def ask() -> list[str]:
        async with AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
            create = client.chat.completions.create
            answers = [create(model="demo", messages=asked(text, shapes)) for text in [*QUESTIONS] * 4]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*answers)]

    assert asyncio.run(ask()) == [*QUESTIONS.values()] * 4


def test_a_stream_in_asyncio(server, shapes):
    async def ask() -> str:
        async with AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="demo", messages=asked("What do you see?", shapes), stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask()) == SEEN


def test_who_leaves_is_answered_no_further(client, server):
    stream = client.chat.completions.create(
        model="demo", messages=asked("What do you see?"), stream=True, max_tokens=1900, extra_body={"ignore_eos": True}
    )
    next(stream)
    stream.close()
    wait_until(server.is_idle, server.told)


def test_several_answers_and_their_probabilities(client, shapes):
    answer = client.chat.completions.create(
        model="demo",
        messages=asked("What do you see?", shapes),
        n=3,
        seed=7,
        temperature=2.0,
        max_tokens=6,
        logprobs=True,
        top_logprobs=2,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    for choice in answer.choices:
        assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
        for token in choice.logprobs.content:
            first, second = (top.logprob for top in token.top_logprobs)
            assert token.logprob <= first + ROUNDING and second <= first <= 0
            assert bytes(token.bytes).decode() == token.token


def test_an_answer_ends_where_it_is_told_to(client, shapes):
    messages = asked("What do you see?", shapes)

    def ends(**how) -> tuple:
        choice = client.chat.completions.create(model="demo", messages=messages, **how).choices[0]
        return choice.message.content, choice.finish_reason

    assert ends(max_completion_tokens=3) == ("a green circle", "length")
    assert ends(stop=[" and"]) == ("a green circle, two green stars", "stop")


def test_a_biased_token_never_comes(client, server, shapes):
    body = {"model": "demo", "prompt": " green"}
    (green,) = httpx.post(f"{server.address}/tokenize", json=body).json()["tokens"]
    answer = client.chat.completions.create(
        model="demo", messages=asked("What do you see?", shapes), logit_bias={str(green): -100}, max_tokens=8
    )
    assert " green" not in answer.choices[0].message.content


def test_texts_are_completed(client):
    given = {"model": "demo", "prompt": ["a red", "two blue"], "max_tokens": 4, "temperature": 0}
    answer = client.completions.create(**given)
    assert [choice.index for choice in answer.choices] == [0, 1]
    texts = ["", ""]
    for chunk in client.completions.create(**given, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in answer.choices] and all(texts)


def test_what_an_answer_points_at(client, shapes):
    def located(**how):
        messages = asked("Locate the green circle.", shapes)
        return client.chat.completions.create(model="demo", messages=messages, extra_body={"grounding": True}, **how)

    wanted = [{"kind": "box", "label": "green circle", "coords": [144.0, 141.0, 186.0, 183.0], "image": 0}]
    assert located().choices[0].message.grounding == wanted
    *_, last = located(stream=True)
    assert last.choices[0].delta.grounding == wanted


@pytest.mark.parametrize(
    ("wrong", "kind", "param"),
    [
        ({"model": "other"}, openai.NotFoundError, "model"),
        ({"temperature": 9}, openai.BadRequestError, "temperature"),
        ({"extra_body": {"tempature": 1}}, openai.BadRequestError, "tempature"),
        ({"messages": asked("What?", "data:image/png;base64,AAAA")}, openai.BadRequestError, None),
        ({"messages": asked("What?", "file:///etc/passwd")}, openai.BadRequestError, None),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"messages": asked("red " * 3000)}, openai.BadRequestError, "messages"),
    ],
)
def test_errors_are_the_clients_own(client, wrong, kind, param):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "demo", "messages": asked("What do you see?")} | wrong)
    assert (caught.value.param or param) == param and caught.value.type
    assert json.loads(caught.value.response.content)["error"]["message"].strip().count("\n") == 0
