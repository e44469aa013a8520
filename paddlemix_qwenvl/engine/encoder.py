"""Features of pictures and videos, made when a prompt reaches them and kept for when they come again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from time import perf_counter
from weakref import WeakKeyDictionary

from paddlemix_qwenvl.engine.batch import new_media
from paddlemix_qwenvl.engine.runner import Runner
from paddlemix_qwenvl.engine.scheduler import Part
from paddlemix_qwenvl.engine.sequence import Sequence
from paddlemix_qwenvl.media import ContentCache
from paddlemix_qwenvl.models.prompts import Media
from paddlemix_qwenvl.process import give_back_freed_memory

MANY_FEATURES = 256  # of a picture that leaves holes in the heap, of about 450 x 450 px


class Encoder:
    """The runner's encoder with a memory of `max_bytes`: what was used longest ago is forgotten."""

    def __init__(self, runner: Runner, max_bytes: int):
        self._runner, self._features = runner, ContentCache(max_bytes)
        self._begun: WeakKeyDictionary[Sequence, tuple[bytes, Iterator]] = WeakKeyDictionary()

    def forget(self) -> None:
        """Drop all features, as when the weights have changed."""
        self._features = ContentCache(self._features.max_bytes)
        self._begun.clear()

    def encode(self, part: Part, decoding: bool, seconds: float = math.inf) -> bool:
        """Give a sequence the features that a part of it reaches; returns whether the part can be computed in this step.

        Where answers wait (`decoding`) that is one new picture at a time: the part ends before the next one. Where these are to be
        spared it is as much of the picture as can be done in so many `seconds`, and the part is for another step.

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
            return True
        if not seconds:
            return False
        started, spares = perf_counter(), seconds < math.inf
        begun = self._begun.pop(sequence, None)
        made = self._pieces(sequence, missing[0], seconds, begun) if spares else self._runner.encode(missing)
        for each, features in zip(missing, made, strict=False):  # none of one that is not done
            sequence.features[each.key] = features
            self._features.put(each.key + salt, features, features.size * features.element_size())
            if len(features) >= MANY_FEATURES and features.place.is_cpu_place():
                give_back_freed_memory()
        sequence.clock.vision += perf_counter() - started
        sequence.clock.started = sequence.clock.started or started
        return not spares

    def _pieces(self, sequence: Sequence, media: Media, seconds: float, begun: tuple[bytes, Iterator] | None) -> list:
        """Go on with a picture for so long, by one piece at least; its features if it is done then, else nothing."""
        pieces = begun[1] if begun and begun[0] == media.key else self._runner.encoding(media)
        started = before = perf_counter()
        for features in pieces:
            if features is not None:
                return [features]
            now = perf_counter()
            if now - started + (now - before) > seconds:  # the next one takes as long
                break
            before = now
        self._begun[sequence] = media.key, pieces
        return []
