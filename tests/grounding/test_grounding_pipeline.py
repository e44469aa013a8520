"""From a picture file to a box and back, through everything that resizes or turns it on the way."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paddlemix_qwenvl.grounding import parse
from paddlemix_qwenvl.media import preprocess_images, process_vision_info

# EXIF orientation: what was done to the upright picture before it was stored
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
SIDE = st.integers(30, 300)
LIMITS = st.tuples(st.integers(4 * 784, 60 * 784), st.integers(1, 8)).map(lambda pair: (pair[0], pair[0] * pair[1]))


@settings(deadline=None, max_examples=150)
@given(SIDE, SIDE, st.sampled_from(list(STORED)), LIMITS, LIMITS, st.data())
def test_a_drawn_box_comes_back_to_where_it_was_drawn(width, height, orientation, message_limits, limits, data):
    """The model is a perfect one here: it says where the box lies in the picture that it sees, in whole pixels."""
    left, top = data.draw(st.integers(0, width - 20)), data.draw(st.integers(0, height - 20))
    right, bottom = data.draw(st.integers(left + 15, width)), data.draw(st.integers(top + 15, height))
    upright = Image.new("L", (width, height))
    upright.paste(255, (left, top, right, bottom))
    file, exif = io.BytesIO(), Image.Exif()
    exif[274] = orientation
    stored = upright if STORED[orientation] is None else upright.transpose(STORED[orientation])
    stored.save(file, "PNG", exif=exif)
    element = dict(zip(("min_pixels", "max_pixels"), message_limits, strict=True), type="image", image=Image.open(file))
    shown, _ = process_vision_info([{"role": "user", "content": [element]}])
    sizes = preprocess_images(shown, **dict(zip(("min_pixels", "max_pixels"), limits, strict=True)))
    assert sizes["original_sizes"] == [(width, height)]
    ((seen_width, seen_height),) = sizes["resized_sizes"]
    seen = np.asarray(shown[0].resize((seen_width, seen_height), Image.Resampling.BICUBIC).convert("L")) > 127
    ys, xs = np.nonzero(seen)
    answer = f'{{"bbox_2d": [{xs.min()}, {ys.min()}, {xs.max() + 1}, {ys.max() + 1}]}}'
    (item,) = parse(answer, sizes["original_sizes"], sizes["resized_sizes"])
    # A pixel of the coarsest of the three pictures, and half a one where a resize has but one side to look at: at the border.
    sides = [(width, height), shown[0].size, (seen_width, seen_height)]
    most = 1.5 * np.tile(np.divide((width, height), np.min(sides, axis=0)), 2)
    assert (np.abs(np.subtract(item.coords, (left, top, right, bottom))) <= most + 0.01).all()
