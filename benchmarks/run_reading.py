"""Measures what memory gives: `run_reading.py FOLDER THREADS TOKENS REPEATS`, for compare.py; all but the threads are not used."""

import json
import sys

from limits import read_rate


def main(folder: str, threads: str, tokens: str, repeats: str) -> None:
    print(json.dumps({"reading": read_rate() / 1e9}))


if __name__ == "__main__":
    main(*sys.argv[1:])
