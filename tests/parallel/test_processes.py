"""What processes tell each other, and what gradients make of it, against one process that does all by itself."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from outrageous.parallel.processes import Processes

Together = Callable[[Callable[[Processes], Any], int], list[Any]]
SEND = [[1, 0, 2], [0, 0, 0], [3, 1, 1]]  # rows from each of three to each of three; the second has none


def rows_of(rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(sum(SEND[rank]), 2, generator=generator, dtype=torch.float64).requires_grad_()


def test_exchanges_sums_and_their_gradients(together: Together) -> None:
    def one(processes: Processes) -> dict[str, Any]:
        mine = rows_of(processes.rank)
        received = processes.exchange(mine, SEND[processes.rank], [row[processes.rank] for row in SEND])
        total = processes.start_sum(received.sum(dim=0)).result()
        (total.square().sum() / processes.size).backward()  # each its share
        return {
            "received": received.detach(),
            "total": total.detach(),
            "gradient": mine.grad,
            "gathered": processes.gather(mine),
            "marks": processes.any(torch.tensor([processes.rank == 1, False])),
            "totals": processes.totals(2, processes.rank),
        }

    results = together(one, 3)
    parts = [rows_of(rank).detach().split(SEND[rank]) for rank in range(3)]
    whole = torch.cat([rows_of(rank).detach() for rank in range(3)])
    for rank, result in enumerate(results):
        torch.testing.assert_close(result["received"], torch.cat([parts[sender][rank] for sender in range(3)]))
        torch.testing.assert_close(result["total"], whole.sum(dim=0))
        # The loss is total², whose gradient by any row is 2·total.
        torch.testing.assert_close(result["gradient"], (2 * whole.sum(dim=0)).expand_as(rows_of(rank)))
        torch.testing.assert_close(result["gathered"], whole)
        assert result["marks"].tolist() == [True, False]
        assert result["totals"] == [6, 3]


def test_one_process_sends_nothing() -> None:
    rows = torch.ones(3, 2)
    alone = Processes()
    assert alone.start_sum(rows).result() is rows
    assert alone.any(rows > 0).all()
    assert alone.exchange(rows, [3], [3]) is rows
    assert alone.gather(rows) is rows
    assert alone.totals(4, 5) == [4, 5]
