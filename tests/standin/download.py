"""Loads by each `[auto class, name, options]` line of standard input, and prints a line of JSON for each: the class of what was
loaded, or the error."""

import json
import sys

import paddlenlp.transformers as nlp

import paddlemix_qwenvl  # noqa: F401, registers

for line in sys.stdin:
    auto_class, name, options = json.loads(line)
    try:
        loaded = getattr(nlp, auto_class).from_pretrained(name, **options)
        answer = {"class": type(loaded).__name__}
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        answer = {"kinds": kinds, "text": str(error)}
    print("answer", json.dumps(answer), flush=True)
