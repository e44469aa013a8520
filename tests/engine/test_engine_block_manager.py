"""Who has which blocks, and which of them hold what another prompt begins with."""

import pytest

from paddlemix_qwenvl.engine.block_manager import BlockManager

A, B, C = b"a", b"b", b"c"


def known(manager: BlockManager, *hashes: bytes) -> list[int]:
    """Blocks of a sequence that has computed these and is done."""
    blocks = [manager.take() for _ in hashes]
    for block, content in zip(blocks, hashes, strict=True):
        manager.know(block, content)
    manager.release(blocks)
    return blocks


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2)])
def test_blocks_for_tokens(tokens, blocks):
    assert BlockManager(1, block_size=4).blocks_for(tokens) == blocks


def test_each_block_is_given_once_and_comes_back():
    manager = BlockManager(3, 4)
    blocks = [manager.take() for _ in range(3)]
    assert sorted(blocks) == [0, 1, 2] and manager.available == 0
    manager.release(blocks)
    assert manager.available == 3 and sorted(manager.take() for _ in range(3)) == [0, 1, 2]


def test_a_block_is_free_when_the_last_one_has_given_it_back():
    manager = BlockManager(1, 4)
    block = manager.take()
    assert not manager.is_shared(block)
    manager.hold(block)
    assert manager.is_shared(block)
    manager.release([block])
    assert manager.available == 0 and not manager.is_shared(block)
    manager.release([block])
    assert manager.available == 1


def test_the_longest_known_beginning_is_found():
    manager = BlockManager(4, 4)
    first, second = known(manager, A, B)
    assert manager.match([A, B, C]) == [first, second]
    assert manager.match([A, C]) == [first]
    assert manager.match([C, A, B]) == []


def test_what_nobody_has_is_known_until_its_place_is_needed():
    manager = BlockManager(2, 4)
    blocks = known(manager, A, B)
    assert manager.available == manager.unheld(blocks) == 2
    manager.hold(blocks[0])
    assert manager.available == manager.unheld(blocks) == 1
    assert manager.take() == blocks[1]
    assert manager.match([A, B]) == blocks[:1]


def test_the_last_block_of_a_sequence_is_forgotten_first():
    manager = BlockManager(3, 4)
    known(manager, A, B, C)
    manager.take()
    assert len(manager.match([A, B, C])) == 2
    manager.take()
    assert len(manager.match([A, B, C])) == 1


def test_what_was_used_longest_ago_is_forgotten_first():
    manager = BlockManager(2, 4)
    (first,), (second,) = known(manager, A), known(manager, B)
    manager.hold(first)
    manager.release([first])
    assert manager.take() == second and manager.match([A]) == [first] and manager.match([B]) == []


def test_free_blocks_go_before_known_ones():
    manager = BlockManager(3, 4)
    known(manager, A)
    manager.take(), manager.take()
    assert len(manager.match([A])) == 1


def test_the_same_content_twice_is_known_once():
    manager = BlockManager(2, 4)
    one, other = manager.take(), manager.take()
    manager.know(one, A)
    manager.know(other, A)
    manager.release([one])
    manager.release([other])
    assert manager.match([A]) == [one] and manager.take() == other and manager.match([A]) == [one]


def test_nothing_is_known_without_a_prefix_cache_or_after_it_was_forgotten():
    manager = BlockManager(2, 4, prefix_cache=False)
    known(manager, A)
    assert manager.match([A]) == [] and manager.available == 2
    manager = BlockManager(2, 4)
    blocks = known(manager, A, B)
    manager.hold(blocks[0])
    manager.forget()
    assert manager.match([A, B]) == [] and manager.available == 1
    manager.release(blocks[:1])
    assert sorted([manager.take(), manager.take()]) == [0, 1]
