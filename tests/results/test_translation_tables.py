"""Tables 3 and 5 with made-up records beside what is printed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outrageous.errors import UserError
from outrageous.results.records import Record
from outrageous.results.tables import make_table, to_markdown
from outrageous.results.translation_tables import TABLE_3, TABLE_5

MakeRecord = Callable[..., Record]


def rows(text: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines}


def translated(make_record: MakeRecord, row: str, **metrics: float) -> Record:
    sizes: dict[str, Any] = {"ops_per_timestep": 2_500_000, "total_parameters": 12_000_000}
    return make_record(row, experiment=row.replace("mt_", "mt/"), metrics={"test_perplexity": 9.0, **metrics}, **sizes)


def test_table_3_has_the_rows_of_its_direction(make_record: MakeRecord, published: Path) -> None:
    records = [
        translated(
            make_record,
            "mt_moe_32_en_de",
            test_bleu=12.5,
            test_bleu_compounds_split=12.0,
            test_perplexity_batchwise=9.2,
        ),
        translated(make_record, "mt_moe_2048_h_en_de", test_bleu=13.0),
        translated(make_record, "mt_moe_0_en_fr", test_bleu=77.0),
    ]
    found = rows(to_markdown(make_table(TABLE_3, published, "pocket", {"reference": records}), "c"))
    assert found["moe_32"][-7:] == ["9.00 (1)", "12.50 (1)", "12.00 (1)", "-", "9.20 (1)", "2.50", "0.0120"]
    assert found["moe_2048"][:5] == ["4.64", "26.03", "85", "8.7", "9.00 (1)"]  # of what is printed of any model
    assert found["deepatt"][-7:] == ["-"] * 7  # which nobody can run here
    assert found["moe_2048"][-6] == "13.00 (1)"
    assert found["moe_0"][-7:] == ["not run"] * 7


def test_table_5_sets_models_of_one_direction_beside_those_of_all(make_record: MakeRecord, published: Path) -> None:
    records = [
        translated(make_record, "mt_multilingual", dev_perplexity=8.0, test_bleu_en_de=11.0, test_bleu_fr_de=5.0),
        translated(make_record, "mt_multilingual_0", dev_perplexity=8.5, test_bleu_en_de=10.0),
        translated(make_record, "mt_moe_0_en_de", dev_perplexity=7.0, test_bleu=12.0),
    ]
    found = rows(to_markdown(make_table(TABLE_5, published, "pocket", {"reference": records}), "c"))
    printed = ["3.35", "24.53", "36.59", "34.80", "37.46", "102", "8700"]
    assert found["moe_multi"] == [*printed, "8.00 (1)", "11.00 (1)", *"----", "5.00 (1)", "2.50", "12.00"]
    assert found["gnmt_multi"][7:9] == ["8.50 (1)", "10.00 (1)"]
    assert found["gnmt_mono"][1:3] == ["26.43", "35.37"]
    assert found["gnmt_mono"][7:] == ["-"] * 9  # no model of ours
    assert found["moe_0_en_de"][7:10] == ["7.00 (1)", "12.00 (1)", "-"]
    assert found["moe_32_en_fr"][7:] == ["not run"] * 9


def test_a_published_table_5_that_lacks_a_row_is_refused(published: Path, tmp_path: Path) -> None:
    lines = (published / "table_5.csv").read_text().splitlines()
    (tmp_path / "table_5.csv").write_text("\n".join(line for line in lines if "bleu_en_de" not in line))
    with pytest.raises(UserError, match=r"table_5\.csv has no row bleu_en_de; restore the file"):
        TABLE_5.printed_rows(tmp_path)
