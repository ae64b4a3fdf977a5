"""What is drawn for a word depends on the word alone, and is distributed as it should be."""

import pytest
import torch

from outrageous.parallel.numbered import Draws, NumberedPart
from outrageous.parallel.processes import Processes


def part(numbers: torch.Tensor, seed: int = 1) -> NumberedPart:
    return NumberedPart(Processes(), Draws(seed), numbers)


def test_noise_is_normal_and_neither_rows_nor_columns_nor_draws_nor_seeds_are_alike() -> None:
    rows = part(torch.arange(4000))
    like = torch.empty(4000, 51)
    first, second, other = rows.normal(like), rows.normal(like), part(torch.arange(4000), seed=2).normal(like)
    for noise in (first, second, other):
        # Standard errors of the four moments of 204,000 numbers: 0.0022, 0.0016, 0.0054, 0.022; five of each.
        moments = [noise.mean(), noise.std() - 1, noise.pow(3).mean(), noise.pow(4).mean() - 3]
        for moment, bound in zip(moments, (0.011, 0.008, 0.027, 0.11), strict=True):
            assert abs(moment) < bound
    for a, b in ((first, second), (first, other), (first[1:], first[:-1]), (first[:, 1:], first[:, :-1])):
        assert abs((a * b).mean()) < 0.011


def test_a_row_has_the_same_noise_in_any_company() -> None:
    whole = part(torch.arange(100)).normal(torch.empty(100, 7))
    some = torch.tensor([70, 3, 12])
    torch.testing.assert_close(part(some).normal(torch.empty(3, 7)), whole[some], rtol=0, atol=0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_the_rest(p: float) -> None:
    x = torch.ones(100, 20, 50)
    out = part(torch.arange(100)).dropout(x, p)
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.008)  # five standard errors at most
    torch.testing.assert_close(out[out > 0].unique(), torch.tensor([1 / (1 - p)]))


def test_a_sentence_has_the_same_dropout_in_any_company_and_with_any_padding() -> None:
    whole = part(torch.arange(8)).dropout(torch.ones(8, 12, 5), 0.5)
    some = part(torch.tensor([6, 2])).dropout(torch.ones(2, 9, 5), 0.5)
    torch.testing.assert_close(some, whole[[6, 2], :9], rtol=0, atol=0)


def test_rows_of_a_word_at_several_groups_have_noise_of_their_own() -> None:
    words = part(torch.arange(2)).words(torch.tensor([[True, True], [True, False]]))
    assert len(words.numbers) == 3
    token, group = torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1])
    noise = words.rows(token, group).normal(torch.empty(3, 4))
    assert len(noise.flatten().unique()) == 12
    # The second and third group here are the third and fourth of all: those of another process.
    elsewhere = NumberedPart(Processes(), Draws(1), words.numbers[token], complete=True, first_expert=2)
    shifted = elsewhere.rows(torch.arange(3), group)
    torch.testing.assert_close(shifted.numbers, words.rows(token, group + 2).numbers)
