"""Grammars: what a mask lets follow, answers that always fit, and grammars that cannot be."""

import json
import random
import re
import unicodedata

import fuzz_schemas
import guided
import numpy as np
import pytest

from paddlemix_qwenvl.engine import grammar_compiler
from paddlemix_qwenvl.engine.grammar import MAX_BYTES, Grammar, Vocabulary
from paddlemix_qwenvl.errors import GenerationError

KINDS = {"demo": guided.demo, "qwen_vl": guided.qwen_vl}
BOX = {
    "demo": 'start: <|box_start|> "(" N "," N ")" <|box_end|>\nN: /[0-9]{1,3}/',
    "qwen_vl": 'start: <box> "(" N "," N ")" </box>\nN: /[0-9]{1,3}/',
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def tokens(kind):
    """A tokenizer and its vocabulary."""
    return KINDS[kind]()


@pytest.fixture(scope="module")
def vocabulary(tokens) -> Vocabulary:
    return tokens[1]


@pytest.fixture(scope="module")
def of_demo() -> Vocabulary:
    return guided.demo()[1]


@pytest.fixture
def untried(monkeypatch):
    """Grammars that are known to compile need no process of their own."""
    monkeypatch.setattr(grammar_compiler, "try_out", lambda *given: None)


def after(grammar: Grammar, tokenizer, text: str):
    """The matcher of an answer that begins with a text."""
    matcher = grammar.matcher()
    for token in tokenizer.encode(text):
        matcher.accept(token)
    return matcher


# ---- masks


def test_tokens_are_the_bytes_of_their_text(tokens):
    tokenizer, _ = tokens
    of = tokenizer.token_bytes()
    text = unicodedata.normalize("NFC", 'in the café 图片 🙂\n\t\x00{"a": [1, 2]} <|im_end|>')
    assert b"".join(of[token] for token in tokenizer.encode(text)) == text.encode()
    assert sorted(of) == list(range(len(tokenizer)))


def test_a_bit_a_token_and_none_for_what_is_no_token(tokens):
    tokenizer, vocabulary = tokens
    matcher = Grammar.choice(["th", "an"], vocabulary).matcher()
    mask = matcher.mask()
    assert mask.dtype == np.int32 and mask.shape == (-(-vocabulary.size // 32),)
    of = tokenizer.token_bytes()
    wanted = {i for i, token in of.items() if b"th".startswith(token) or b"an".startswith(token)}
    assert {v for v in range(32 * len(mask)) if mask[v // 32] >> (v % 32) & 1} == wanted
    assert guided.allowed(Grammar.lark("start: <[*]>", vocabulary).matcher()) == [
        v for v in sorted(of) if v not in vocabulary.end_ids and of[v] != b"\xff"
    ]


def test_special_tokens_follow_where_a_lark_grammar_names_them(kind, tokens, untried):
    tokenizer, vocabulary = tokens
    text = Grammar.lark("start: /(?s:.+)/", vocabulary).matcher()
    assert not {*guided.allowed(text)} & {*tokenizer.all_special_ids}
    grammar = Grammar.lark(BOX[kind], vocabulary)
    ids, answer = guided.answer(grammar, tokenizer, 0)
    opening, closing = tokenizer.convert_tokens_to_ids(re.findall("<[^<>]+>", BOX[kind]))
    assert guided.allowed(grammar.matcher()) == [opening] and (ids[0], ids[-1]) == (opening, closing)
    assert re.fullmatch(r"<[^>]+>\(\d+,\d+\)<[^>]+>", answer)
    # Spelled out it is text, and not the token.
    quoted = after(Grammar.lark('start: "<|im_end|>" "."', vocabulary), tokenizer, "")
    assert not {*guided.allowed(quoted)} & {*tokenizer.all_special_ids}


def test_text_may_be_what_a_tokenizer_composes(tokens):
    """`e` and an accent are another text than `é`, as which tokenizers read both."""
    tokenizer, vocabulary = tokens
    _, answer = guided.answer(Grammar.choice(["e\u0301"], vocabulary), tokenizer, 0)
    assert answer == "e\u0301"


def test_the_end_is_the_only_thing_that_may_follow_a_whole_answer(tokens, untried):
    tokenizer, vocabulary = tokens
    matcher = after(Grammar.choice(["the", "then"], vocabulary), tokenizer, "the")
    assert {*vocabulary.end_ids} < {*guided.allowed(matcher)} and not matcher.ended
    matcher.accept(tokenizer.encode("n")[0])
    assert matcher.ended and guided.allowed(matcher) == sorted(vocabulary.end_ids)
    for end in vocabulary.end_ids:
        one = matcher.copy()
        one.accept(end)
        assert one.ended and guided.allowed(one) == sorted(vocabulary.end_ids)
    early = after(Grammar.choice(["the", "then"], vocabulary), tokenizer, "the")
    early.accept(vocabulary.end_ids[1])
    assert early.ended


def test_masks_and_accepted_agree(kind, vocabulary, untried):
    draws = random.Random(3)
    for grammar in (
        Grammar.lark(BOX[kind], vocabulary),
        Grammar.json_object(vocabulary),
        Grammar.lark("start: <[*]>{3}", vocabulary),
    ):
        matcher = grammar.matcher()
        for _ in range(12):
            allowed = guided.allowed(matcher)
            assert [v for v in range(-1, vocabulary.size + 40) if matcher.accepted([v])] == allowed
            token = draws.choice(allowed)
            matcher.accept(token)
            if matcher.ended:
                break


def test_how_many_of_several_tokens_may_follow(tokens, untried):
    tokenizer, vocabulary = tokens
    matcher = Grammar.regex(r"\d{2}x?", vocabulary).matcher()
    one, two, x = tokenizer.encode("12x")
    end, other = vocabulary.end_ids
    for draft, count in {
        (): 0,
        (one, two, x): 3,
        (one, two, end): 3,
        (one, two, other, x): 3,
        (one, end): 1,
        (one, x): 1,
        (x,): 0,
        (one, vocabulary.size): 1,
        (one, -1): 1,
        (one, vocabulary.size - 1, two): 1,
    }.items():
        assert matcher.accepted(draft) == count, draft
    assert matcher.accepted(np.array([one, two])) == 2
    for token in (one, two, x):
        matcher.accept(token)
    assert matcher.accepted([end, one]) == 1 and matcher.accepted([one]) == 0


def test_copies_go_on_by_themselves(tokens, untried):
    tokenizer, vocabulary = tokens
    one = Grammar.choice(["12", "34"], vocabulary).matcher()
    other = one.copy()
    one.accept(tokenizer.encode("1")[0])
    other.accept(tokenizer.encode("3")[0])
    assert guided.allowed(one) == tokenizer.encode("2") and guided.allowed(other) == tokenizer.encode("4")


def test_a_token_that_may_not_follow(tokens, untried):
    tokenizer, vocabulary = tokens
    matcher = Grammar.choice(["12"], vocabulary).matcher()
    for wrong in (tokenizer.encode("2")[0], vocabulary.end_ids[0], vocabulary.size - 1, vocabulary.size, -1):
        with pytest.raises(GenerationError, match=f"does not let token {wrong} follow: take one of its mask"):
            matcher.accept(wrong)
    assert [matcher.accepted(tokenizer.encode("12")), matcher.ended] == [2, False]  # it is as it was


# ---- answers


def test_every_answer_of_a_random_model_is_valid(tokens, untried):
    tokenizer, vocabulary = tokens
    for seed in range(120):
        schema = fuzz_schemas.random_schema(random.Random(seed))
        _, text = guided.answer(Grammar.json_schema(schema, vocabulary), tokenizer, seed)
        fuzz_schemas.check(schema, text)


RANGES = [
    ({"exclusiveMinimum": 1, "maximum": 1.3}, ["1", "1.0", "1.4"], ["1.3", "1.25", "1.0001"]),
    ({"exclusiveMinimum": 0, "exclusiveMaximum": 0.3}, ["0", "0.0", "0.3"], ["0.1", "0.001"]),
    ({"minimum": -1.3, "exclusiveMaximum": -1.0}, ["-1", "-1.0", "-1.31"], ["-1.3", "-1.001"]),
    ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, ["0", "1", "1.0"], ["0.5", "0.999"]),
    ({"minimum": 0, "exclusiveMinimum": -1, "maximum": 0.2, "exclusiveMaximum": 0.3}, ["0.21", "0.3"], ["0", "0.2"]),
    ({"exclusiveMinimum": 4e9, "maximum": 4e9 + 0.5}, ["4000000000"], ["4000000000.5"]),
    ({"exclusiveMinimum": 3, "maximum": 5}, ["3", "5.1"], ["3.001", "4", "5"]),
]


@pytest.mark.parametrize(("bounds", "wrong", "right"), RANGES, ids=str)
def test_an_end_that_is_left_out_is_not_written(bounds, wrong, right, of_demo, untried):
    """Neither on its own nor within, while a constant that looks like a range stays as it is."""
    tokenizer, _ = guided.demo()
    number = {"type": "number", **bounds}
    for schema, form in ((number, "{}"), ({"prefixItems": [{"anyOf": [number]}], "items": False}, "[{}]")):
        grammar = Grammar.json_schema(schema, of_demo)
        ends = [tokenizer.encode(form.format(text)) for text in (*wrong, *right)]
        accepted = [grammar.matcher().accepted([*ids, of_demo.end_ids[0]]) == len(ids) + 1 for ids in ends]
        assert accepted == [False] * len(wrong) + [True] * len(right)
    constant = Grammar.json_schema({"const": {"exclusiveMinimum": 0, "maximum": 0.5}}, of_demo)
    assert json.loads(guided.answer(constant, tokenizer, 0)[1]) == {"exclusiveMinimum": 0, "maximum": 0.5}


def test_any_object(tokens):
    tokenizer, vocabulary = tokens
    grammar = Grammar.json_object(vocabulary)
    assert all(isinstance(json.loads(guided.answer(grammar, tokenizer, seed)[1]), dict) for seed in range(10))


def test_spaces_come_to_an_end(tokens, untried):
    """A model that writes a space wherever it may; the user's own options do not change that."""
    tokenizer, vocabulary = tokens
    blanks = [tokenizer.encode(blank)[0] for blank in ("\n", " ", "\t")]
    item = {"type": "integer", "minimum": 1, "maximum": 3}
    schema = {"type": "array", "items": item, "minItems": 2, "maxItems": 2}
    schema["x-guidance"] = {"whitespace_pattern": " *", "item_separator": " *, *"}
    matcher, ids = Grammar.json_schema(json.dumps(schema), vocabulary).matcher(), []
    while not matcher.ended:
        choices = guided.allowed(matcher)
        ids.append(next((token for token in blanks if token in choices), choices[0]))
        matcher.accept(ids[-1])
    assert re.fullmatch(r"\[(\s+)[123](\s+),(\s+)[123](\s+)\]", text := tokenizer.decode(ids))
    assert text.count("\n") == 4 and len(text) == 5 + 4 * 33
    pretty = json.dumps([1, 2], indent=4)
    assert after(Grammar.json_schema(schema, vocabulary), tokenizer, pretty).ended


def test_choices_and_expressions_are_followed_to_the_letter(tokens, untried):
    tokenizer, vocabulary = tokens
    choices = ["a", "ab", "abc", '"', "\\", "\\x41", "\n", "图", "/", "'", "🙂 x", "\x00", "<|im_end|>"]
    grammar = Grammar.choice(choices, vocabulary)
    assert {guided.answer(grammar, tokenizer, seed)[1] for seed in range(500)} == {*choices}
    for pattern in (r"^\d{3}/[^\d\s]+$", "(?:yes|no)!?", "x{2,}y", "图+\n", "/"):
        grammar = Grammar.regex(pattern, vocabulary)
        for seed in range(5):
            assert re.fullmatch(pattern, guided.answer(grammar, tokenizer, seed)[1], re.ASCII)


# ---- what cannot be


def nested(depth: int) -> dict:
    schema = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


CHAIN = {f"a{i}": {"properties": {"x": {"$ref": f"#/$defs/a{i + 1}"}}} for i in range(1000)}
WRONG = {
    "no object": (Grammar.json_schema, True, "the JSON schema is true: give an object"),
    "a list": (Grammar.json_schema, "[]", r"the JSON schema is \[\]: give an object"),
    "no JSON": (Grammar.json_schema, "{", "the JSON schema is no JSON .*: give an object"),
    "no number": (Grammar.json_schema, {"const": float("nan")}, "the JSON schema is no JSON"),
    "no data": (Grammar.json_schema, {"enum": {1}}, "the JSON schema is no JSON"),
    "depth": (Grammar.json_schema, nested(5000), "the JSON schema (is no JSON|cannot be compiled).*recursion"),
    "depth of JSON": (Grammar.json_schema, "[" * 60000, "the JSON schema (is no JSON|cannot be compiled).*recursion"),
    "some depth": (Grammar.json_schema, nested(200), "JSON schema cannot be compiled: .*recursion limit"),
    "references": (Grammar.json_schema, {"$defs": CHAIN | {"a1000": {}}, "$ref": "#/$defs/a0"}, "nested too deeply"),
    "size": (Grammar.json_schema, {"title": "x" * MAX_BYTES}, f"has {MAX_BYTES + 13} bytes, at most {MAX_BYTES}"),
    "a type": (Grammar.json_schema, {"type": "image"}, "cannot be compiled: Invalid type: image: change that"),
    "a keyword": (Grammar.json_schema, {"not": {}}, "Unimplemented keys"),
    "nothing fits": (Grammar.json_schema, {"type": "integer", "minimum": 3, "maximum": 2}, "Unsatisfiable"),
    "nothing ends": (Grammar.json_schema, {"$ref": "#"}, "no answer fits it"),
    "a bound": (Grammar.json_schema, {"type": "number", "minimum": "1", "exclusiveMaximum": 1.5}, "cannot be compiled"),
    "large bounds": (Grammar.json_schema, {"type": "number", "minimum": 10**400, "maximum": 0.5}, "cannot be compiled"),
    "options": (Grammar.json_schema, {"x-guidance": 5}, "x-guidance of the JSON schema is 5: give an object"),
    "half a character": (Grammar.json_schema, {"const": "\ud800"}, "cannot be compiled: .*hex escape"),
    "an expression": (Grammar.regex, "(", "the regular expression cannot be compiled: .*unclosed group"),
    "look-ahead": (Grammar.regex, "a(?=b)", "look-ahead.* is not supported"),
    "a backslash": (Grammar.regex, "a\\", "ends in a backslash"),
    "no expression": (Grammar.regex, "", "the regular expression is '': give a text"),
    "no text": (Grammar.regex, None, "the regular expression is None: give a text"),
    "no choices": (Grammar.choice, [], r"the list of choices is \[\]: give one or more texts"),
    "one text": (Grammar.choice, "ab", "the list of choices is 'ab'"),
    "an empty choice": (Grammar.choice, ["a", ""], "the choice is '': give a text"),
    "choices": (Grammar.choice, ["x" * 9] * 9000, "the list of choices has"),
    "half a letter": (Grammar.choice, ["\ud800"], "the choice holds half a character"),
    "no start": (Grammar.lark, "a: /x/", "the Lark grammar cannot be compiled: no start rule found"),
    "brackets": (Grammar.lark, "start: " + "(" * 9999, "too deeply nested"),
    "rules": (Grammar.lark, "start: a0\n" + "".join(f"a{i}: a{i + 1}\n" for i in range(4000)), "nested too deeply"),
    "an unknown token": (Grammar.lark, "start: <|nobody|>", "unknown special token"),
    "a long Lark grammar": (Grammar.lark, "x" * 70000, "the Lark grammar has 70000 bytes"),
}


@pytest.mark.parametrize(("make", "given", "told"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_compiled(make, given, told, of_demo):
    with pytest.raises(GenerationError, match=told) as caught:
        make(given, of_demo)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_what_would_take_for_ever(of_demo, monkeypatch):
    monkeypatch.setattr(grammar_compiler, "SECONDS", 1)
    forever = "start: A\nA: " + " & ".join(f"/[^a]*{i}/" for i in range(300))
    with pytest.raises(GenerationError, match="the Lark grammar cannot be compiled: it takes over 1 s"):
        Grammar.lark(forever, of_demo)


def test_a_grammar_is_tried_once(monkeypatch):
    """One that is wrong each time; for another vocabulary it is another."""
    tried, try_out = [], grammar_compiler.try_out
    monkeypatch.setattr(grammar_compiler, "try_out", lambda text, *given: tried.append(text) or try_out(text, *given))
    one, other = guided.demo()[1], guided.demo()[1]
    for vocabulary in (one, one, other):
        answers = [Grammar.choice(["a"], vocabulary).matcher() for _ in range(2)]
        answers[0].accept(guided.allowed(answers[0])[0])
        assert answers[0].ended and not answers[1].ended
    for _ in range(2):
        with pytest.raises(GenerationError, match="Invalid type"):
            Grammar.json_schema({"type": "image"}, one)
    assert [text.count("image") for text in tried] == [0, 0, 1, 1]


def test_a_grammar_that_has_grown_too_large_begins_anew(tokens, untried, monkeypatch):
    monkeypatch.setattr(grammar_compiler, "_LEXER_STATES", 120)
    tokenizer, vocabulary = tokens
    grammar = Grammar.regex("(?s:.*)[a-m].{40}c", vocabulary)
    beside = grammar.matcher()
    with pytest.raises(GenerationError, match=r"leads nowhere from here .*too many states.*: make it simpler"):
        guided.answer(grammar, tokenizer, 1, patience=2000)
    with pytest.raises(GenerationError, match="too many states"):
        beside.mask()
    assert guided.allowed(grammar.matcher())


def test_an_end_token_within_an_answer(vocabulary, untried):
    matcher = Grammar.lark(f'start: "a" <[{vocabulary.end_ids[0]}]> "b"', vocabulary).matcher()
    matcher.accept(guided.allowed(matcher)[0])
    with pytest.raises(GenerationError, match="wants an end token within an answer"):
        matcher.mask()


@pytest.mark.parametrize("ends", [[], [832], [-1, 801]])
def test_end_tokens_that_are_none(ends):
    with pytest.raises(GenerationError, match=r"the end tokens are .*: a grammar needs one or more of 0 to 831"):
        Vocabulary.of(guided.demo()[0], 832, ends)
