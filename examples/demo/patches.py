"""What training asks of every patch besides the answers: what it shows, and where that begins and ends.

An answer is a few tokens a picture; a label for each square of 28 x 28 pixels (one image token) says much more. The heads
that are asked live in training alone, as auxiliary classifiers do (Szegedy et al. 2015, arXiv:1409.4842, section 5). Two
places are asked: the vision tower's features, for what does not depend on where in the picture a patch lies, and the language
model's middle layer, for coordinates as they are written.
"""

import numpy as np
import scenes

SIDE = 28  # of an image token, in pixels of the resized picture
IGNORED = -100
KINDS = ("nothing", "text", *scenes.SHAPES)
COLORS = tuple(scenes.COLORS)
LETTERS = sorted(set("".join(scenes.WORDS)) | set("0123456789"))
FIRST = (*scenes.WORDS, *"123456789")  # first token of a text
SECOND = ("", *"0123456789")  # second, of a number
DIGITS = ("", *"0123456789")  # "" after the last digit
FEATURE_LABELS = {"kind": KINDS, "middle": (0, 1), "color": COLORS, "letter": LETTERS, "first": FIRST, "second": SECOND}
COORDINATES, PLACES = 4, 3  # a coordinate has up to three digits
WEIGHT = 0.25  # of the patches' loss beside the answers'


def patch_labels(scene: scenes.Scene) -> dict[str, np.ndarray]:
    """Labels of a picture's `P` image tokens, row by row.

    Returns:
        `patch_labels`: int64 `[P, 6 + 12]`, indices into the sequences of FEATURE_LABELS, then the digits of x1, y1, x2, y2;
        IGNORED where a question makes no sense. `patch_boxes`: float32 `[P, 4]`, the box from the token's centre, in tokens.
    """
    size = scenes.resized(scene.image.size)
    columns, rows = size[0] // SIDE, size[1] // SIDE
    scale = np.array([size[0] / scene.image.size[0], size[1] / scene.image.size[1]] * 2)
    corners = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2) * SIDE
    labels = np.full((rows * columns, len(FEATURE_LABELS) + COORDINATES * PLACES), IGNORED, np.int64)
    labels[:, :2] = 0
    boxes, best = np.zeros((rows * columns, 4), np.float32), np.full(rows * columns, SIDE * SIDE / 8)

    def claim(box):
        """Tokens that a box (in resized pixels) covers more of than any before."""
        sides = np.minimum(corners + SIDE, box[2:]) - np.maximum(corners, box[:2])
        area = np.where((sides > 0).all(1), sides.prod(1), 0)
        won = area > best
        best[won] = area[won]
        labels[won, 2:] = IGNORED
        return won

    for shape in scene.shapes:
        box = shape.box * scale
        won, middle = claim(box), (box[:2] + box[2:]) // (2 * SIDE)
        labels[(corners == middle * SIDE).all(1), 1] = 1
        labels[won, 0], labels[won, 2] = KINDS.index(shape.kind), COLORS.index(shape.color)
        written = [str(round(c)) for c in box]
        labels[won, len(FEATURE_LABELS) :] = [
            DIGITS.index(number[place : place + 1]) for number in written for place in range(PLACES)
        ]
        boxes[won] = (box - np.tile(corners[won] + SIDE / 2, 2)) / SIDE
    for letter, box in scene.letters:
        won = claim(box * scale)
        labels[won, 0], labels[won, 3] = KINDS.index("text"), LETTERS.index(letter)
        number = scene.text.isdigit()
        labels[won, 4] = FIRST.index(scene.text[0] if number else scene.text)
        labels[won, 5] = SECOND.index(scene.text[1:] if number else "")
    return {"patch_labels": labels, "patch_boxes": boxes}
