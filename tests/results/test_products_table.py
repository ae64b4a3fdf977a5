"""The table of experts' products, by hand."""

from outrageous.results.products_table import products_markdown


def test_table_by_hand() -> None:
    size = {"num_experts": 256, "rows_per_expert": 1000, "d_model": 512, "d_hidden": 1024, "precision": "bfloat16"}
    rates = {"seconds": 0.00412, "tflops": 390.9, "dense_tflops": 781.8, "share_of_dense": 0.5}
    content = {
        "command": "python -m outrageous.commands.bench products",
        "commit": "abc",
        "dirty": False,
        "versions": {"python": "3.11", "torch": "2.13"},
        "hardware": {"cpu": "a cpu", "threads": 1, "accelerator": "a gpu"},
        "figures": {
            "num_rounds": 5,
            "num_passes": 10,
            "rows": [size | rates, size | {"rows_per_expert": 90000, "reason": "does not fit"}],
        },
    }
    text = products_markdown(content)
    assert "`python -m outrageous.commands.bench products`: a gpu" in text
    assert "medians of 5 rounds of 10 passes" in text
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "256" in line] == [
        ["256", "1,000", "512 × 1024", "bfloat16", "4.12", "390.9", "781.8", "0.50"],
        ["256", "90,000", "512 × 1024", "bfloat16", "does not fit", "", "", ""],
    ]
