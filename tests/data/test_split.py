"""Blocks held out by name or by draw, and what makes a duplicate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrageous.data.split import assign_drawn, assign_named, duplicate_key, num_blocks
from outrageous.errors import UserError


def test_num_blocks_counts_a_short_last_one() -> None:
    assert [num_blocks(n, 200) for n in (1, 199, 200, 201, 400)] == [1, 1, 1, 2, 2]


def test_named_blocks_are_the_ones_held_out() -> None:
    assignment = assign_named({"a": 4, "b": 2}, dev={"a": [1]}, test={"a": [3], "b": [0]})
    assert assignment == {("a", 1): "dev", ("a", 3): "test", ("b", 0): "test"}


@pytest.mark.parametrize(
    ("dev", "test", "message"),
    [
        ({"c": [0]}, {"a": [1]}, "data.dev_blocks names 'c', but data.path gives only a, b"),
        ({"a": [0]}, {"b": [2]}, "data.test_blocks: b has blocks 0 to 1, not 2"),
        ({"a": [-1]}, {"b": [0]}, "data.dev_blocks: a has blocks 0 to 3, not -1"),
        ({"a": [0]}, {"a": [0]}, "block 0 of a is held out twice"),
        ({"a": [0]}, {}, "must each name a block"),
        ({"a": [0, 1, 2, 3]}, {"b": [0, 1]}, "leave one for training"),
    ],
)
def test_named_blocks_that_make_no_split_are_refused(
    dev: dict[str, list[int]], test: dict[str, list[int]], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        assign_named({"a": 4, "b": 2}, dev, test)
    assert message in str(caught.value)


@given(
    blocks_of=st.dictionaries(st.sampled_from("abc"), st.integers(3, 200), min_size=1),
    dev_fraction=st.floats(0.01, 0.3),
    test_fraction=st.floats(0.01, 0.3),
    seed=st.integers(0, 100),
)
def test_drawn_blocks_are_about_the_share_asked_for(
    blocks_of: dict[str, int], dev_fraction: float, test_fraction: float, seed: int
) -> None:
    assignment = assign_drawn(blocks_of, dev_fraction, test_fraction, seed)
    total = sum(blocks_of.values())
    for part, fraction in (("dev", dev_fraction), ("test", test_fraction)):
        drawn = [block for block, of in assignment.items() if of == part]
        assert len(drawn) == max(1, round(fraction * total))
        assert all(0 <= number < blocks_of[name] for name, number in drawn)
    assert assignment == assign_drawn(blocks_of, dev_fraction, test_fraction, seed)


def test_the_draw_depends_on_the_seed() -> None:
    assert assign_drawn({"a": 100}, 0.1, 0.1, seed=0) != assign_drawn({"a": 100}, 0.1, 0.1, seed=1)


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(UserError, match=r"2 blocks: too few .* lower data\.block_lines"):
        assign_drawn({"a": 2}, 0.02, 0.02, seed=0)


def test_duplicates_differ_in_case_digits_and_spacing_only() -> None:
    key = duplicate_key(["In", "1790", ",", "I", "SPOKE", "."])
    assert key == "in0,ispoke."
    assert key == duplicate_key(["in", "2026,", "i", "spoke."])
    assert key != duplicate_key(["in", "1790", ",", "you", "spoke", "."])
