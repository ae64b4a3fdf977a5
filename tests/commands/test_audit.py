"""`outrageous-audit`: every printed size, in seconds and without memory for weights."""

import shutil
from pathlib import Path

import pytest

from outrageous.commands.audit import audit, main, markdown
from outrageous.commands.one_gpu import MODELS, grid_of, settings_of
from outrageous.results.audit import printed_rows

RESULTS = Path(__file__).parents[2] / "results"


def test_every_printed_size_is_ours_or_its_difference_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """137 billion parameters among them, which no machine of ours could hold."""
    assert main(["--results", str(RESULTS)]) == 0
    out = capsys.readouterr().out
    assert "137577.628" in out
    assert out.count("†") == 8  # four figures, and four reasons
    assert out.endswith("Every figure is as printed, or its difference explained.\n")


def test_the_committed_audit_is_current() -> None:
    saved = (RESULTS / "tables" / "audit.md").read_text(encoding="utf-8")
    assert saved == markdown(audit(RESULTS, [])), "make audit, and commit results/tables/audit.md"


def test_a_difference_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(RESULTS / "published", tmp_path / "published")
    table = tmp_path / "published" / "table_7.csv"
    table.write_text(table.read_text().replace("8.4,37.8,0.9", "8.4,37.9,0.9"))
    assert main(["lm/moe_32", "--results", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "differs: table_7, moe_32: params (M) printed 37.9, ours 37.782" in out
    assert "moe_256" not in out  # not named
    assert main(["lm/moe_4", "--results", str(tmp_path)]) == 0


def test_saving_writes_what_is_checked(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "published", tmp_path / "published")
    assert main(["--save", "--results", str(tmp_path)]) == 0
    assert (tmp_path / "tables" / "audit.md").read_text(encoding="utf-8") == markdown(audit(RESULTS, []))


def test_memory_for_several_numbers_of_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lm/moe_256_h", "--devices", "1,16", "--results", str(RESULTS)]) == 0
    out = capsys.readouterr().out
    assert "lm/moe_256_h, paper scale: predicted memory of one GPU, GB" in out
    # 1085.4 million weights and 0.8 million biases of 4 bytes; of these 268.7 million in groups, a sixteenth of them
    one, sixteen = [
        line.split() for line in out.splitlines() if line.split()[:2] in (["1", "300,000"], ["16", "18,750"])
    ]
    assert one[2:5] == ["4.345", "8.690", "4.345"]
    assert sixteen[2] == "3.337"
    assert float(one[5]) > float(sixteen[5]) > 3.337
    assert main(["lm/moe_256_h", "--devices", "16,17", "--results", str(RESULTS)]) == 0
    out = capsys.readouterr().out
    assert [line.split()[2:] for line in out.splitlines() if line.split()[:1] == ["17"]] == [["-"] * 4]
    assert "there are 16 experts, or groups of them, to be shared" in out
    assert main(["lm/balance_0_0", "--devices", "1", "--scale", "pocket", "--results", str(RESULTS)]) == 0
    assert "lm/balance_0_0, pocket scale" in capsys.readouterr().out
    of_translation = ["mt/moe_32", "--devices", "1", "--scale", "pocket", "trainer=gpu", "savings=appendix_d"]
    assert main([*of_translation, "--results", str(RESULTS)]) == 0
    assert "mt/moe_32 trainer=gpu savings=appendix_d, pocket scale" in capsys.readouterr().out


def test_the_committed_memory_of_one_gpu_is_current() -> None:
    """Of all models those that need the settings, and of some what they take."""
    saved = (RESULTS / "tables" / "one_gpu.md").read_text(encoding="utf-8")
    rows = [line for line in saved.splitlines() if line.startswith("| `")]
    of_table_7 = {row.experiment for row in printed_rows(RESULTS / "published") if row.table == "table_7"}
    assert set(MODELS) == of_table_7 - {None} | {"mt/moe_2048_h"}
    assert [line.split("`")[1] for line in rows] == [" ".join([name, *settings_of(name)]) for name in MODELS]
    grid = grid_of(("lm/4xlstm_512", "lm/moe_143m"))
    assert all(f"| {' | '.join(cells)} |" in rows for cells in grid.rows)
    assert all(float(line.split("|")[6].strip(" %")) < 95 for line in rows)  # they fit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lm/moe_33"], "no size of lm/moe_33 is printed; --devices predicts its memory"),
        (["lm/moe_33", "--devices", "1"], "there is no experiment/lm/moe_33"),
        (["--devices", "1"], "--devices: name the experiments whose memory is to be predicted"),
        (["lm/moe_32", "trainer=gpu"], "trainer=gpu: settings are of the memory that --devices predicts"),
        (["lm/moe_32", "--save"], "--save writes the rows of all experiments: name none"),
        (["lm/moe_32", "--scale", "pocket"], "--scale pocket: what is printed is of scale paper"),
        (["--devices", "0"], "--devices: '0': must be whole numbers from 1"),
        (["--results", "nowhere"], "nowhere/published/table_1.csv is missing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--results", str(RESULTS), *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
