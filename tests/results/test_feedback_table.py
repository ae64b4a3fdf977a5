"""The table of the context fed back, by hand."""

from outrageous.results.feedback_table import feedback_markdown


def test_table_by_hand() -> None:
    seconds = {("whole", 20): 0.5, ("loop", 20): 0.1, ("whole", 10): 0.2, ("loop", 10): 0.05}
    content = {
        "command": "python -m outrageous.commands.bench feedback",
        "commit": "abc",
        "dirty": False,
        "versions": {"python": "3.11", "torch": "2.13"},
        "hardware": {"cpu": "a cpu", "threads": 1, "accelerator": None},
        "figures": {
            "experiment": "mt/moe_32",
            "scale": "pocket",
            "num_pairs": 8,
            "source_length": 25,
            "num_rounds": 3,
            "whole": "whole",
            "speeds": [
                {"name": name, "length": length, "seconds": value, "seconds_per_step": value / length}
                for (name, length), value in seconds.items()
            ],
        },
    }
    lines = feedback_markdown(content).splitlines()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(("| whole", "| loop"))
    ]
    assert rows == [
        ["whole", "10", "200.0", "20.000", "100%"],
        ["loop", "10", "50.0", "5.000", "25%"],
        ["whole", "20", "500.0", "25.000", "100%"],
        ["loop", "20", "100.0", "5.000", "20%"],
    ]
