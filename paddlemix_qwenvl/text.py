"""Text that can be encoded. Imports nothing."""


def repair(text: str) -> str:
    """`text` as one that can be encoded: two surrogates that belong together become their character, another one U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
