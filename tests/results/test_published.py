from pathlib import Path

import pytest

from outrageous.errors import UserError
from outrageous.results.published import Table7Row, equal_ops_rows, read_published, table_7

PUBLISHED = Path(__file__).parents[2] / "results" / "published"


@pytest.mark.parametrize("number", range(1, 9))
def test_every_table_reads(number: int) -> None:
    rows = read_published(PUBLISHED / f"table_{number}.csv")
    assert len(rows) >= 2
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_table_7(paper: list[Table7Row]) -> None:
    by_name = {row.model: row for row in paper}
    assert len(paper) == len(by_name) == 17
    assert by_name["moe_256"] == Table7Row("moe_256", 35.7, None, 8.6, 272.9, 1.1, 0.1, 0.81)
    assert by_name["kneser_ney_5gram"].params_excluding_embedding_softmax_millions is None


def test_figure_2_has_the_mixtures_and_the_dense_models_of_equal_ops(paper: list[Table7Row]) -> None:
    dense = ["4xlstm_512", "moe_1_wide", "moe_1_deep"]
    assert equal_ops_rows(paper) == [*dense, "moe_4", "moe_32", "moe_256", "moe_256_h", "moe_1024_h", "moe_4096_h"]


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
