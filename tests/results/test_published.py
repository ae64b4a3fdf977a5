from pathlib import Path

import pytest

from outrageous.errors import UserError
from outrageous.results.published import Table7Row, equal_ops_rows, read_cells, read_published, table_7


@pytest.mark.parametrize("number", range(1, 9))
def test_every_table_reads(number: int, published: Path) -> None:
    rows = read_published(published / f"table_{number}.csv")
    assert len(rows) >= 2
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_table_7(published: Path) -> None:
    paper = table_7(published)
    by_name = {row.model: row for row in paper}
    assert len(paper) == len(by_name) == 17
    assert by_name["moe_256"] == Table7Row("moe_256", 35.7, None, 8.6, 272.9, 1.1, 0.1, 0.81)
    assert by_name["kneser_ney_5gram"].params_excluding_embedding_softmax_millions is None


def test_figure_2_has_the_mixtures_and_the_dense_models_of_equal_ops(published: Path) -> None:
    dense = ["4xlstm_512", "moe_1_wide", "moe_1_deep"]
    assert equal_ops_rows(table_7(published)) == [
        *dense,
        "moe_4",
        "moe_32",
        "moe_256",
        "moe_256_h",
        "moe_1024_h",
        "moe_4096_h",
    ]


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "table_7.csv"
    with pytest.raises(UserError, match=r"table_7\.csv is missing"):
        table_7(tmp_path)
    path.write_text("")
    with pytest.raises(UserError, match="has no rows"):
        table_7(tmp_path)
    path.write_text("model,a\nx,1\ny\n")
    with pytest.raises(UserError, match="line 3: 1 cells under 2 headings"):
        table_7(tmp_path)
    path.write_text("model,a\nx,1\n")
    with pytest.raises(UserError, match="does not have table 7's columns"):
        table_7(tmp_path)


def test_cells_are_as_printed(published: Path) -> None:
    assert [row["max_over_mean_load"] for row in read_cells(published / "table_6.csv")][:2] == ["17.80", "1.47"]
    assert read_cells(published / "table_7.csv")[0]["test_perplexity_10_epochs"] == ""


def test_a_column_that_is_not_there_is_named(published: Path) -> None:
    with pytest.raises(UserError, match=r"table_6\.csv has no column speed, colour; restore"):
        read_cells(published / "table_6.csv", ["speed", "cv_load", "colour"])
