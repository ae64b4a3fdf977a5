"""The benchmark measures what it says, and refuses what it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from outrageous.commands.bench import main
from outrageous.training import corpus_benchmark, layer_benchmark
from outrageous.training.contestants import LayerSize


def settings(tiny_corpus: list[str]) -> list[str]:
    return [setting for setting in tiny_corpus if not setting.startswith("scale")]


def test_steps_of_several_models_and_their_ratio(
    tiny_corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["step", "experiment=lm/moe_1_wide,lm/moe_4", "scale=smoke", *settings(tiny_corpus)]
    synthetic = ["data=synthetic", "data.max_rows=500", "data.max_size=300", "trainer.precision=bf16-mixed"]
    arguments = [argument for argument in arguments if not argument.startswith("data")]
    assert main([*arguments, *synthetic, "--rounds", "1", "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    saved = json.loads((folder / "step_smoke.json").read_text())
    assert saved["hardware"]["threads"] == 1
    rows = saved["figures"]["rows"]
    assert [row["experiment"] for row in rows] == ["lm/moe_1_wide", "lm/moe_4"]
    for row in rows:
        assert sum(row["parts"].values()) == pytest.approx(1)
        assert min(row["parts"].values()) > 0
        assert row["share_of_dense"] == pytest.approx(row["tflops"] / row["dense_tflops"])
        assert row["peak"] > 10**7
        assert row["expert_tflops"] * row["parts"]["experts"] < row["tflops"]  # of all that is computed a part
    # 16 wide: two LSTMs of 8·16² and four experts of 2·16·32, with a gate of 2·16·4; softmax of 16·(1 + 16) classes.
    flops = 6 * (2 * 8 * 16**2 + 4 * 2 * 16 * 32 + 2 * 16 * 4 + 16 * 17)
    assert rows[1]["tflops"] == pytest.approx(rows[1]["words_per_second"] * flops / 1e12)
    assert (folder / "step_smoke.md").read_text() in capsys.readouterr().out


def test_whether_models_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    on_a_cpu = ["scale=smoke", "trainer.accelerator=cpu", "trainer.words_per_batch=1000"]
    assert main(["fit", "experiment=lm/moe_143m,mt/moe_32", *on_a_cpu, "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    rows = json.loads((folder / "fit_smoke.json").read_text())["figures"]["rows"]
    assert [(row["experiment"], row["words_per_batch"]) for row in rows] == [
        ("lm/moe_143m", 1000),
        ("mt/moe_32_en_de", 1000),
    ]
    assert all(row["peak"] > 0 and row["predicted"] > 10**6 for row in rows)
    assert (folder / "fit_smoke.md").read_text() in capsys.readouterr().out


def test_whether_a_gpu_trains_as_a_cpu_does(
    tiny_corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = [*settings(tiny_corpus), "trainer.max_steps=8", "trainer.validate_every=8"]
    own = [setting for setting in own if setting != "trainer.max_steps=-1"]
    assert main(["agreement", "experiment=lm/moe_4", "scale=smoke", *own, "--rounds", "2", "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    figures = json.loads((folder / "agreement.json").read_text())["figures"]
    first, second = figures["rows"]
    assert [row["precision"] for row in figures["rows"]] == ["32-true", "bf16-mixed"]
    assert first["seeds"] == second["seeds"] == [0, 1]
    assert second["dev_perplexities"] == pytest.approx(first["dev_perplexities"], rel=0.02)
    assert figures["spread"] == pytest.approx(abs(first["dev_perplexities"][0] - first["dev_perplexities"][1]))
    assert (folder / "agreement.md").read_text() in capsys.readouterr().out


def test_batching(tiny_corpus: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batching", *settings(tiny_corpus), "scale=smoke"]) == 0
    figures = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(figures["words_per_second"].replace(",", "")) > 0
    assert 0 <= float(figures["padding"]) < 0.2


def test_steps_with_experts_spread_over_processes(
    tiny_corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["sharding", "experiment=lm/moe_32", *settings(tiny_corpus), "scale=smoke", "--rounds", "2", "--save"]
    assert main(arguments) == 0
    folder = tmp_path / "results" / "benchmarks"
    rows = json.loads((folder / "sharding.json").read_text())["figures"]["rows"]
    ways = [(row["spread"], row["processes"], row["threads"]) for row in rows]
    assert ways == [(False, 1, 1), (True, 1, 1), (False, 1, 2), (True, 2, 1)]
    assert all(row["words_per_second"] > 0 for row in rows)
    assert [row["ratio"] for row in rows if not row["spread"]] == [1, 1]
    # Nothing is sent by one process alone; two wait for each other some of the time, and not all of it.
    assert [row["in_calls"] for row in rows[:3]] == [0, 0, 0]
    assert 0 < rows[3]["in_calls"] < 1
    assert (folder / "sharding.md").read_text() in capsys.readouterr().out


def test_steps_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["step"])
    assert stop.value.code == 2
    assert "name the experiments" in capsys.readouterr().err


SMALL = ["experts=4", "tokens=16", "d_model=8", "d_hidden=24", "--rounds", "1"]


def test_a_layer_beside_its_bounds_and_other_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["layer", *SMALL, "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    saved = json.loads((folder / "layer.json").read_text())
    (size,) = saved["figures"]["sizes"]
    assert (size["num_experts"], size["num_tokens"], size["k"]) == (4, 16, 4)
    seconds = {entry["name"]: entry["forward_backward"] for entry in size["contestants"]}
    assert {"products of the experts", "dense layer", "outrageous", "outrageous, memory got afresh"} <= seconds.keys()
    assert all(value > 0 for value in seconds.values())
    (peak,) = saved["figures"]["peaks"]
    assert all(value > 10**7 for value in peak["bytes"].values())
    assert saved["command"].startswith("python -m outrageous.commands.bench layer experts=4 tokens=16")
    assert (folder / "layer.md").read_text() in capsys.readouterr().out


def test_a_layer_benchmark_that_is_stopped_has_saved_the_sizes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(size: LayerSize, num_rounds: int) -> dict[str, Any]:
        if size.num_experts == 8:
            raise KeyboardInterrupt
        return measure_layer(size, num_rounds)

    monkeypatch.chdir(tmp_path)
    measure_layer = layer_benchmark.measure_layer
    monkeypatch.setattr(layer_benchmark, "measure_layer", measure)
    monkeypatch.setattr(layer_benchmark, "measure_peaks", lambda size: {"Adam": None})
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        main(["layer", *SMALL, "experts=4,8", "--save"])
    folder = tmp_path / "results" / "benchmarks"
    (size,) = json.loads((folder / "layer.json").read_text())["figures"]["sizes"]
    assert size["num_experts"] == 4
    assert "## N = 4, T = 16" in (folder / "layer.md").read_text()


def test_cost_against_the_number_of_experts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cost", *SMALL, "experts=4,16", "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    points = json.loads((folder / "cost.json").read_text())["figures"]["points"]
    kinds = {"flat layer", "hierarchical layer", "flat gating", "hierarchical gating"}
    assert {(point["kind"], point["num_experts"]) for point in points} == {(kind, n) for kind in kinds for n in (4, 16)}
    assert (folder / "cost.md").read_text() in capsys.readouterr().out
    assert "∝ N^" in (folder / "cost.svg").read_text()
    assert (folder / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_products_of_experts_by_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sizes = ["experts=2,4", "rows=8,16", "d_model=8", "d_hidden=16"]
    assert main(["products", *sizes, "--rounds", "1", "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    rows = json.loads((folder / "products.json").read_text())["figures"]["rows"]
    assert [(row["num_experts"], row["rows_per_expert"]) for row in rows] == [(2, 8), (2, 16), (4, 8), (4, 16)]
    assert all(row["share_of_dense"] > 0 for row in rows)
    assert (folder / "products.md").read_text() in capsys.readouterr().out


def test_decoding_by_beams_and_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = ["lengths=4,2", "beams=1,3", "sentences=2", "source=3"]
    assert main(["decoding", *sizes, "scale=smoke", "--rounds", "1", "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    figures = json.loads((folder / "decoding.json").read_text())["figures"]
    ways = ("beam of 1", "beam of 3", "greedy, encoding again")
    assert [(speed["name"], speed["length"]) for speed in figures["speeds"]] == [(w, n) for n in (2, 4) for w in ways]
    assert (folder / "decoding.md").read_text() in capsys.readouterr().out
    assert "words of the output" in (folder / "decoding.svg").read_text()
    assert (folder / "decoding.png").read_bytes().startswith(b"\x89PNG")


def test_the_context_fed_back_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["feedback", "lengths=4,2", "pairs=2", "source=3", "scale=smoke", "--rounds", "1", "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    speeds = json.loads((folder / "feedback.json").read_text())["figures"]["speeds"]
    assert [speed["length"] for speed in speeds] == [4, 4, 4, 2, 2, 2]
    assert (folder / "feedback.md").read_text() in capsys.readouterr().out


def test_what_memory_savings_save_and_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["memory", *SMALL, "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    rows = json.loads((folder / "memory.json").read_text())["figures"]["rows"]
    assert len({(row["optimizer"], row["recompute"]) for row in rows}) == len(rows) == 6
    assert all(row["seconds"] > 0 for row in rows)
    kept = {row["optimizer"]: (row["weights"], row["gradients"], row["state"]) for row in rows}
    # Two weights of 4 experts, 8 by 24: 1,536 numbers of 4 bytes. Adam's state: two more of each, and a step of each
    # weight; the factored one's 8 + 24 means for each of 192 numbers.
    assert kept["adam"] == (4, 4, pytest.approx(8 + 8 / 1536))
    assert kept["factored_adam"] == (4, 4, pytest.approx(4 * 32 / 192 + 8 / 1536))
    assert kept["gradient_free"] == (4, 0, kept["factored_adam"][2])
    assert (folder / "memory.md").read_text() in capsys.readouterr().out


def test_corpora_prepared_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(corpus_benchmark, "SECONDS_BETWEEN_LOOKS", 0.02)
    assert main(["data", "words=5000,20000", "types=200", "--save"]) == 0
    folder = tmp_path / "results" / "benchmarks"
    figures = json.loads((folder / "data.json").read_text())["figures"]
    small, large = figures["preparations"]
    # Of 20,000 words and line breaks, 24.4 words in 25.4; and two held-out shards of a tenth each.
    assert large["words"] == pytest.approx(1.2 * 20_000 * 24.4 / 25.4, rel=0.05)
    assert small["words"] == pytest.approx(large["words"] / 4, rel=0.1)
    assert all(entry["seconds"] > 0 and entry["memory"] > 10**7 for entry in (small, large))
    assert figures["batches"]["seconds_to_first"] > 0
    assert figures["batches"]["words_per_second"] > 0
    assert figures["batches"]["memory"] > 10**7
    assert (folder / "data.md").read_text() in capsys.readouterr().out
    assert list((tmp_path / "outputs").iterdir()) == []


def test_corpora_that_the_disk_has_no_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["data", "words=1000000000000000"])
    assert stop.value.code == 2
    assert "GB are free: make room, or lower words=" in capsys.readouterr().err


def test_a_step_with_each_optimizer_of_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["vocabulary", "types=3000", "tokens=50", "d_model=8", "sampled=4", "--rounds", "1", "--save"]
    assert main(arguments) == 0
    folder = tmp_path / "results" / "benchmarks"
    figures = json.loads((folder / "vocabulary.json").read_text())["figures"]
    assert figures["table_parameters"] == 2 * 3000 * 8
    adam, sparse, factored = figures["rows"]
    assert [row["optimizer"] for row in figures["rows"]] == ["adam", "sparse_adam", "factored_adam"]
    assert adam["gradients"] == adam["weights"] == 4 * figures["parameters"]
    # Of two tables of 3,000 rows at most 50 and 50 + 4 have a gradient, with a number of 8 bytes each.
    others = 4 * (figures["parameters"] - figures["table_parameters"])
    assert others < sparse["gradients"] <= others + (50 + 54) * (4 * 8 + 8)
    assert sparse["state"] == pytest.approx(adam["state"], abs=100)
    assert factored["state"] == pytest.approx(adam["state"] - 4 * 2 * (2 * 3000 * 8 - 3000 - 8), abs=100)
    assert all(row["step"] > 0 for row in figures["rows"])
    assert (folder / "vocabulary.md").read_text() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vocabulary", "types=100", "sampled=100"], "sampled=100: must be fewer than types=100"),
        (["data", "types=5,6"], "types=5,6: one number only"),
        (["step", "lm/moe_32"], "lm/moe_32: settings are written KEY=VALUE, such as experiment="),
        (["layer", "lm/moe_32"], "lm/moe_32 is no size; give experts=…, tokens=…"),
        (["layer", "expert=4"], "expert=4 is no size"),
        (["layer", "experts=4,x"], "experts=4,x: needs positive whole numbers"),
        (["layer", "tokens=0"], "tokens=0: needs positive whole numbers"),
        (["cost", "d_model=8,16"], "d_model=8,16: one number only"),
        (["cost", "tokens=8,16"], "tokens=8,16: one number only"),
        (["layer", "experts=2"], "k=4 experts a token, but experts=2: lower k"),
        (["cost", "k=2"], "k=2: a hierarchy of two equal levels needs a square"),
        (["layer", "--rounds", "0"], "--rounds 0 --threads 1: both must be at least 1"),
    ],
)
def test_sizes_that_cannot_be(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
