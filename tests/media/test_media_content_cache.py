import io

import media_samples as samples
import numpy as np
from PIL import Image

from paddlemix_qwenvl.media import ContentCache, content_key, process_vision_info


def test_what_was_used_longest_ago_goes_first():
    cache = ContentCache(max_bytes=10)
    for key, nbytes in ((b"a", 4), (b"b", 4)):
        cache.put(key, key.decode(), nbytes)
    assert cache.get(b"a") == "a"
    cache.put(b"c", "c", 4)
    assert [cache.get(key) for key in (b"a", b"b", b"c")] == ["a", None, "c"]
    assert cache.used_bytes == 8
    cache.put(b"a", "A", 6)
    assert (cache.get(b"a"), cache.used_bytes) == ("A", 10)
    cache.put(b"d", "d", 11)
    assert (cache.get(b"d"), cache.used_bytes) == (None, 10)


def test_the_key_is_the_content():
    values = np.arange(6.0)
    assert content_key(values) == content_key(values.copy())
    others = [values + 1, values.reshape(2, 3), values.astype(np.float32), values[::-1]]
    assert len({content_key(other) for other in [values, *others]}) == 5
    assert content_key(values, 28) != content_key(values, 14)
    file = io.BytesIO(b"x" * 3000000)
    assert content_key(file, 1) == content_key(io.BytesIO(b"x" * 3000000), 1)
    assert file.tell() == 0


def test_a_picture_that_returns_is_not_decoded_again(tmp_path, monkeypatch):
    samples.picture("RGB", 100, 63).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    decoded = []
    opened = Image.open
    monkeypatch.setattr(Image, "open", lambda file: decoded.append(file) or opened(file))
    cache = ContentCache(max_bytes=1 << 20)

    def fetch(name: str, cache: ContentCache | None = cache, **settings) -> Image.Image:
        content = [{"type": "image", "image": str(tmp_path / name), **settings}]
        return process_vision_info([{"role": "user", "content": content}], cache=cache)[0][0]

    first = fetch("a.png")
    assert cache.used_bytes == 3 * first.width * first.height
    expected = np.array(first)
    first.paste("red", (0, 0, 50, 50))  # the user's copy, not the cache's
    again = fetch("b.png")
    assert np.array_equal(again, expected)
    assert again.info == {"original_size": (100, 63)}
    assert len(decoded) == 1
    assert fetch("a.png", max_pixels=3136).size != again.size
    fetch("a.png", cache=None)
    assert len(decoded) == 3
