"""Features of pictures and videos, made when a prompt reaches them and kept for when they come again."""

from __future__ import annotations

from time import perf_counter

from paddlemix_qwenvl.engine.batch import new_media
from paddlemix_qwenvl.engine.runner import Runner
from paddlemix_qwenvl.engine.scheduler import Part
from paddlemix_qwenvl.media import ContentCache


class Encoder:
    """The runner's encoder with a memory of `max_bytes`: what was used longest ago is forgotten."""

    def __init__(self, runner: Runner, max_bytes: int):
        self._runner, self._features = runner, ContentCache(max_bytes)

    def forget(self) -> None:
        """Drop all features, as when the weights have changed."""
        self._features = ContentCache(self._features.max_bytes)

    def encode(self, part: Part, decoding: bool) -> None:
        """Give a sequence the features that a part of it reaches.

        Where answers wait (`decoding`) that is one new picture at a time: the part ends before the next one.

        Raises:
            QwenVLError: the runner cannot encode one of them.
        """
        sequence, salt = part.sequence, part.sequence.request.cache_salt
        media = [each for each in new_media(part) if each.key not in sequence.features]
        for each in media:
            if (found := self._features.get(each.key + salt)) is not None:
                sequence.features[each.key] = found
        first = {each.key: each for each in reversed(media) if each.key not in sequence.features}
        missing = sorted(first.values(), key=lambda each: int(each.places[0]))
        if decoding and len(missing) > 1:
            part.count = int(missing[1].places[0]) - sequence.computed
            missing = missing[:1]
        if not missing:
            return
        started = perf_counter()
        for each, features in zip(missing, self._runner.encode(missing), strict=True):
            sequence.features[each.key] = features
            self._features.put(each.key + salt, features, features.size * features.element_size())
        sequence.clock.vision += perf_counter() - started
        sequence.clock.started = sequence.clock.started or started
