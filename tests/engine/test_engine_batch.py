"""The parts of a plan as one packed batch."""

import numpy as np
import paddle
from table_model import picture, request

from paddlemix_qwenvl.engine.batch import batch_of, new_media
from paddlemix_qwenvl.engine.scheduler import Part
from paddlemix_qwenvl.engine.sequence import Sequence

BLOCK_SIZE = 4


def sequence_of(prompt, blocks, computed: int = 0, answer=(), media=()) -> Sequence:
    sequence = Sequence(request(prompt, media), (0,), seed=0)
    sequence.blocks, sequence.computed = blocks, computed
    for token in answer:
        sequence.append(token, 0.0)
    return sequence


def test_a_prompt_an_answer_and_a_draft():
    prompt = sequence_of([10, 11, 12, 13, 14, 15], [5, 2], computed=1)
    answer = sequence_of([20, 21, 22], [7], computed=3, answer=[23])
    draft = sequence_of([30, 31], [1, 3], computed=3, answer=[32, 33])
    parts = [Part(prompt, 4), Part(answer, 1), Part(draft, 1, [34, 35])]
    inputs, features = batch_of(parts, BLOCK_SIZE)
    assert inputs.ids.tolist() == [11, 12, 13, 14, 23, 33, 34, 35]
    assert inputs.position_ids.tolist() == [[1, 2, 3, 4, 3, 3, 4, 5]]
    assert inputs.cu_seqlens.tolist() == [0, 4, 5, 8]
    assert inputs.lengths.tolist() == [5, 4, 6]
    assert inputs.block_tables.tolist() == [[5, 2], [7, 0], [1, 3]]
    assert inputs.slot_mapping.tolist() == [21, 22, 23, 8, 31, 7, 12, 13]
    assert inputs.wanted.tolist() == [4, 5, 6, 7]  # none of the prompt, which is not complete
    assert inputs.ntk_alpha.tolist() == [1.0] * 8
    assert inputs.source is None and features == [] and not inputs.decoding
    dtypes = {name: getattr(inputs, name).dtype for name in ("ids", "position_ids", "wanted")}
    assert set(dtypes.values()) == {np.dtype(np.int64)}
    for name in ("cu_seqlens", "lengths", "block_tables", "slot_mapping"):
        assert getattr(inputs, name).dtype == np.int32


def test_a_step_that_gives_no_token_asks_for_some_logits_all_the_same():
    inputs, _ = batch_of([Part(sequence_of([1, 2, 3, 4], [0]), 2)], BLOCK_SIZE)
    assert inputs.wanted.tolist() == [1] and not inputs.decoding


def test_one_token_a_row_is_decoding():
    answers = [sequence_of([20, 21], [row], computed=2, answer=[23]) for row in range(3)]
    inputs, _ = batch_of([Part(each, 1) for each in answers], BLOCK_SIZE)
    assert inputs.decoding and inputs.wanted.tolist() == [0, 1, 2]
    prompt = sequence_of([1, 2, 3], [4])
    inputs, _ = batch_of([*(Part(each, 1) for each in answers), Part(prompt, 1)], BLOCK_SIZE)
    assert not inputs.decoding  # whose logits nobody asks for


def test_positions_go_on_after_a_prompts_own():
    sequence = sequence_of([1, 2, 3], [0, 1], answer=[4, 5])
    object.__setattr__(sequence.prompt, "position_ids", np.array([[0, 7, 7], [0, 1, 2]]))
    object.__setattr__(sequence.prompt, "next_position", 8)
    assert sequence.positions(1, 5).tolist() == [[7, 7, 8, 9], [1, 2, 8, 9]]
    assert sequence.positions(4, 5).tolist() == [[9], [9]]
    assert sequence.positions(0, 2).tolist() == [[0, 7], [0, 1]]


def test_features_of_the_part_that_is_computed():
    """The first picture is cut by what was computed before, the second by the part's end, the third is not reached."""
    media = [picture(1, [1, 2, 3]), picture(2, [5, 6, 7]), picture(3, [8, 9])]
    sequence = sequence_of(range(10), [0, 1, 2], computed=2, media=media)
    for each in media:
        sequence.features[each.key] = paddle.to_tensor(each.places.astype("float32")[:, None])
    other = sequence_of([50, 51], [3])
    parts = [Part(other, 2), Part(sequence, 5)]
    assert new_media(parts[0]) == [] and new_media(parts[1]) == media[:2]
    inputs, features = batch_of(parts, BLOCK_SIZE)
    assert inputs.ids.tolist() == [50, 51, 2, 3, 4, 5, 6]
    assert inputs.source.tolist() == [0, 1, 7, 8, 4, 9, 10]
    assert [each[:, 0].tolist() for each in features] == [[2, 3], [5, 6]]
