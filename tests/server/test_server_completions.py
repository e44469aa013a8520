"""/v1/completions, /tokenize and /detokenize on the demo."""

import pytest


def complete(client, **body) -> dict:
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_texts_and_ids_are_gone_on_with(client, stream):
    prompt = "<|im_start|>user\nHello"
    body = {"max_tokens": 6, "logprobs": 0, "temperature": 1, "seed": 5, "n": 2}
    whole = complete(client, prompt=[prompt, "b"], **body)
    assert (whole["object"], whole["model"]) == ("text_completion", "demo")
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    assert whole["choices"][0]["text"] == complete(client, prompt=prompt, **body | {"n": 1})["choices"][0]["text"]
    tokens = client.post("/tokenize", json={"prompt": prompt}).json()["tokens"]
    of_ids = complete(client, prompt=[tokens], **body)["choices"]
    told = [
        [(each["text"], each["logprobs"]["tokens"]) for each in choices] for choices in (of_ids, whole["choices"][:2])
    ]
    assert told[0] == told[1]  # their probabilities are those of batches of other sizes
    *chunks, last = stream("/v1/completions", prompt=[prompt, "b"], stream_options={"include_usage": True}, **body)
    assert last["usage"] == whole["usage"] | {"prompt_tokens_details": last["usage"]["prompt_tokens_details"]}
    for choice in whole["choices"]:
        pieces = [each for chunk in chunks for each in chunk["choices"] if each["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        assert [token for piece in pieces for token in piece["logprobs"]["tokens"]] == choice["logprobs"]["tokens"]
        assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == [choice["finish_reason"]]


def test_sixteen_tokens_are_what_nobody_asks_for(client):
    answer = complete(client, prompt="Hello", ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 16 and answer["choices"][0]["finish_reason"] == "length"


def test_log_probabilities_say_where_their_tokens_stand(client):
    found = complete(client, prompt="Hello", logprobs=2, max_tokens=5, ignore_eos=True)["choices"][0]["logprobs"]
    assert [len(values) for values in found.values()] == [5] * 4
    assert found["text_offset"] == [len("".join(found["tokens"][:i])) for i in range(5)]
    assert all(len(each) == 2 for each in found["top_logprobs"])


def test_a_format_holds_for_all_prompts(client):
    answer = complete(client, prompt=["a", "b"], structured_outputs={"choice": ["yes", "no"]})
    assert all(choice["text"] in ("yes", "no") for choice in answer["choices"])


@pytest.mark.parametrize("prompt", [[811], [808, 811, 809], [812]])
def test_marks_of_pictures_that_are_not_there_are_refused(client, prompt):
    response = client.post("/v1/completions", json={"prompt": prompt})
    assert response.status_code == 400 and response.json()["error"]["type"] == "invalid_request_error"


def test_tokens_and_back(client):
    text = "Hello <|im_end|> 😀"
    found = client.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"]) and found["max_model_len"] == 2048
    assert 801 not in found["tokens"]
    assert client.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": text}
    assert client.post("/detokenize", json={"tokens": [800, 105]}).json() == {"prompt": "<|im_start|>i"}
    assert client.post("/tokenize", json={"prompt": ""}).json()["tokens"] == []
    assert client.post("/detokenize", json={"tokens": [832]}).status_code == 400


def test_salts_keep_prompts_apart(client):
    def cached(**fields) -> int:
        usage = complete(client, prompt="A prompt that fills a block." * 4, max_tokens=1, **fields)["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    assert [cached(), cached() > 0, cached(cache_salt="a"), cached(cache_salt="a") > 0] == [0, True, 0, True]


def test_health_says_how_far_the_server_is(client):
    told = client.get("/health").json()
    assert (told["state"], told["progress"], told["stuck_seconds"]) == ("ready", 1.0, 0.0)


def test_models_are_listed(client):
    (card,) = client.get("/v1/models").json()["data"]
    assert card == {
        "id": "demo",
        "object": "model",
        "created": card["created"],
        "owned_by": "paddlemix_qwenvl",
        "max_model_len": 2048,
    }
    assert client.get("/v1/models/demo").json() == card
    assert client.get("/v1/models/a/b").json()["error"]["code"] == "model_not_found"
