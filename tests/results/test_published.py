from pathlib import Path

import pytest

from outrageous.errors import UserError
from outrageous.results.published import read_cells


@pytest.mark.parametrize("number", range(1, 9))
def test_every_table_reads(number: int, published: Path) -> None:
    rows = read_cells(published / f"table_{number}.csv")
    assert len(rows) >= 2
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "table_7.csv"
    with pytest.raises(UserError, match=r"table_7\.csv is missing"):
        read_cells(path)
    path.write_text("")
    with pytest.raises(UserError, match="has no rows"):
        read_cells(path)
    path.write_text("model,a\nx,1\ny\n")
    with pytest.raises(UserError, match="line 3: 1 cells under 2 headings"):
        read_cells(path)


def test_cells_are_as_printed(published: Path) -> None:
    assert [row["max_over_mean_load"] for row in read_cells(published / "table_6.csv")][:2] == ["17.80", "1.47"]
    assert read_cells(published / "table_7.csv")[0]["test_perplexity_10_epochs"] == ""


def test_a_column_that_is_not_there_is_named(published: Path) -> None:
    with pytest.raises(UserError, match=r"table_6\.csv has no column speed, colour; restore"):
        read_cells(published / "table_6.csv", ["speed", "cv_load", "colour"])
