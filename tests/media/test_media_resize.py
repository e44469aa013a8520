import media_samples as samples
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media.resize import requested_size, smart_resize

GOLDEN = np.load(samples.GOLDEN)


def test_sizes_are_those_of_the_reference_processor():
    ours = [smart_resize(h, w, 28, least, most) for h, w, least, most in samples.resize_cases().tolist()]
    assert np.array_equal(ours, np.maximum(GOLDEN["sizes/processor"], 28))  # the reference lets a side shrink to 0


def test_sizes_are_those_of_qwen_vl_utils():
    ours = [requested_size({}, h, w, 28, least, most) for h, w, least, most in samples.resize_cases().tolist()]
    assert np.array_equal(ours, np.maximum(GOLDEN["sizes/utils"], 28))
    small = [requested_size({}, h, w, 28, 4 * 784, 16384 * 784) for h, w in samples.small_resize_cases().tolist()]
    assert np.array_equal(small, GOLDEN["sizes/small"])


@pytest.mark.parametrize(
    ("size", "expected"),  # what smart_resize of transformers 4.57.6 returns
    [
        ((1, 1), (56, 56)),
        ((27, 27), (56, 56)),
        ((20, 300), (28, 308)),
        ((13, 2000), (28, 700)),
        ((14, 2000), (28, 672)),
    ],
)
def test_sides_under_a_factor_are_scaled_up_as_by_later_transformers(size, expected):
    assert smart_resize(*size) == expected


@settings(deadline=None)
@given(
    st.integers(1, 20000),
    st.integers(1, 20000),
    st.sampled_from([28, 32, 56]),
    st.integers(1, 10**6),
    st.integers(0, 10**7),
)
def test_any_picture_gets_whole_factors_or_a_typed_error(height, width, factor, least, room):
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(MediaError, match="aspect ratio over 200"):
            smart_resize(height, width, factor, least, least + room)
        return
    new_height, new_width = smart_resize(height, width, factor, least, least + room)
    assert new_height % factor == new_width % factor == 0 < new_height * new_width
    grown = (least / (height * width)) ** 0.5
    rounded_up = (height * grown + factor) * (width * grown + factor)
    assert new_height * new_width <= max(least + room, factor * max(new_height, new_width), rounded_up)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-5, 28)])
def test_an_empty_picture_is_refused(size):
    with pytest.raises(MediaError, match="empty"):
        smart_resize(*size)


def test_an_empty_pixel_range_is_refused():
    with pytest.raises(MediaError, match=r"min_pixels \(3136\) is over max_pixels \(784\)"):
        smart_resize(100, 100, max_pixels=784)
