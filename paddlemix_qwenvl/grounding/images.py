"""Which of several pictures an answer means."""

import re
from bisect import bisect_right
from collections.abc import Sequence

_ORDINALS = {
    word: n
    for n, word in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], 1
    )
}
_ORDINALS |= {word: n for n, word in enumerate("一二三四五六七八九十", 1)}
_MENTION = re.compile(
    r"(?<![A-Za-z])(?:picture|image|photo|pic|img)[ _#]*(?P<number>[0-9]{1,4})(?![0-9])"
    r"|(?:图片?|图像)\s*(?P<figure>[0-9]{1,4})(?![0-9])"
    r"|第\s*(?P<nth>[0-9]{1,4}|[一二三四五六七八九十])\s*[张幅个]?\s*(?:图片|图像|图|照片)"
    rf"|(?<![A-Za-z])(?P<word>{'|'.join(word for word in _ORDINALS if word.isascii())})\s+(?:picture|image|photo)",
    re.IGNORECASE,
)
_KEY = re.compile(r"(?:image|img|picture|pic|photo|图片?|图像)(?:[ _-]?(?:index|idx|id|no|number))?", re.IGNORECASE)


def _number(match: re.Match) -> int:
    word = match[match.lastgroup].lower()
    return _ORDINALS[word] if word in _ORDINALS else int(word)


def named_picture(text: str) -> int | None:
    """The number in a text that is nothing but a picture's name ("Picture 2", "image_1", "第二张图"), or None."""
    match = _MENTION.fullmatch(text.strip())
    return _number(match) if match else None


def picture_key(value: dict) -> int | None:
    """The number of the picture that a JSON object names in a key such as `image`, `image_index` or `picture`, or None."""
    for key, content in value.items():
        if not _KEY.fullmatch(key):
            continue
        if isinstance(content, int) and not isinstance(content, bool):
            return content
        if isinstance(content, str):
            return int(content) if re.fullmatch("[0-9]{1,4}", content) else named_picture(content)
    return None


def assign_pictures(
    prose: str, shapes: Sequence[tuple[int, int | None, int | None]], count: int, first: int = 0
) -> list[int | None]:
    """The index of the picture of each shape, or None for one in a picture that the prompt did not have.

    prose: the answer with everything but its prose blanked out.
    shapes: (place in the text, number of its picture if the JSON around it says so, outermost array it stands in).
    count: pictures in the prompt.
    first: index of the first of those that were shown with the question.

    Both families' templates announce pictures as "Picture 1:", "Picture 2:" (Qwen2.5-VL's with `add_vision_id`), and answers
    refer to them that way. So, with more than one picture, the first of these that says something decides:
    1. the object itself (`"image": 2`) or a key around it (`{"Picture 2": [...]}`);
    2. the last picture named in the prose before it ("Picture 2", "the second image", "图2", "第二张图");
    3. if the answer names no picture anywhere and has as many arrays with shapes as pictures were shown with the question,
       their order;
    4. otherwise it is the first of these.
    Numbers count from 1, or from 0 in an answer that uses 0.
    """
    if count == 1:
        return [0] * len(shapes)
    mentions = [(match.start(), _number(match)) for match in _MENTION.finditer(prose)]
    numbers = [number for _, number in mentions] + [number for _, number, _ in shapes if number is not None]
    base = 0 if 0 in numbers else 1
    mentions = [(at, number - base) for at, number in mentions if 0 <= number - base < count]
    places = [at for at, _ in mentions]
    groups = sorted({group for _, _, group in shapes if group is not None})
    by_order = not numbers and len(groups) == count - first

    def picture(at, number, group):
        if number is not None:
            return number - base if 0 <= number - base < count else None
        if before := bisect_right(places, at):
            return mentions[before - 1][1]
        return first + (groups.index(group) if by_order and group is not None else 0)

    return [picture(*shape) for shape in shapes]
