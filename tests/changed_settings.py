"""Settings files changed at random: what a hand that slips, an old tool or a broken download makes of them."""

import copy
import json
import random
from collections.abc import Iterator

VALUES = (
    None,
    True,
    False,
    0,
    1,
    -1,
    7,
    2**31,
    10**30,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "7",
    "true",
    "é\ud800",
)
VALUES += ([], [[]], [0, 0, 0], ["x"], {}, {"": None}, {"type": "nobody"}, [None], "x" * 300)


def changed(text: str, seed: int) -> bytes:
    """The file `text` with one to three changes: of values, of keys, or of its bytes."""
    draws = random.Random(seed)
    if draws.random() < 0.1:
        return _changed_bytes(text.encode(), draws)
    try:
        data = json.loads(text)
    except ValueError:
        return _changed_bytes(text.encode(), draws)
    for _ in range(draws.randint(1, 3)):
        data = _changed_value(data, draws)
    return json.dumps(data, ensure_ascii=draws.random() < 0.5).encode("utf-8", "surrogatepass")


def _changed_bytes(content: bytes, draws: random.Random) -> bytes:
    at = draws.randrange(max(1, len(content)))
    return draws.choice(
        [
            content[:at],
            content[:at] + bytes(draws.randrange(256) for _ in range(4)) + content[at + 1 :],
            content[:at] + content[at + draws.randint(1, 9) :],
            b"\xef\xbb\xbf" + content,
            content.decode("utf-8", "replace").encode("utf-16"),
            b"[" * 100_000,
            b"",
            b"null",
        ]
    )


def _changed_value(data, draws: random.Random):
    places = list(_places(data))
    if not places:
        return copy.deepcopy(draws.choice(VALUES))
    parent, key = draws.choice(places)
    kind = draws.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[draws.choice([f"{key}s", key.upper(), ""])] = parent.pop(key)
    elif kind == 2:
        parent[key] = draws.choice([[parent[key]], {"value": parent[key]}, str(parent[key])])
    elif kind == 3 and isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = draws.choice(
            [-parent[key], parent[key] + 1, parent[key] * 1000, parent[key] / 3, str(parent[key])]
        )
    else:
        parent[key] = copy.deepcopy(draws.choice(VALUES))  # another change may change it
    return data


def _places(data) -> Iterator[tuple]:
    """Every (parent, key or index) of nested JSON; of long lists and objects the first 40."""
    items = list(data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ())[:40]
    for key, value in items:
        yield data, key
        yield from _places(value)
