"""Steps on several devices are predicted where there can be any."""

from dataclasses import asdict

from outrageous.commands.bench_scaling import _predictions
from outrageous.parallel.traffic import Device
from outrageous.results.scaling_table import scaling_markdown


def test_steps_of_more_devices_than_groups_are_not_predicted() -> None:
    device = Device(flops=1e13, bandwidth=1e10, latency=5e-5)
    rows = _predictions("lm/moe_256_h", [1, 16, 17], device)  # of 16 groups
    assert [row["seconds"] is None for row in rows] == [False, False, True]
    assert 4 < rows[1]["speed_up"] < 16
    figures = {"scale": "pocket", "words_per_batch": 4096, "device": asdict(device), "counted": [], "predicted": rows}
    origin = {"command": "bench", "commit": "0", "dirty": False, "versions": {}}
    hardware = {"accelerator": None, "cpu": "a CPU", "threads": 1}
    text = scaling_markdown({"figures": figures, "hardware": hardware, **origin})
    one, sixteen, seventeen = [line for line in text.splitlines() if line.startswith("| lm/moe_256_h |")]
    assert one.startswith("| lm/moe_256_h | 1 | 0 | - | ")
    assert "-" not in sixteen
    assert seventeen == "| lm/moe_256_h | 17 | - | - | - | - | - |"
