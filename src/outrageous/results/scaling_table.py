"""Bytes and seconds of training on several devices as Markdown, from what `outrageous-bench scaling` saves."""

from typing import Any

from outrageous.results.layer_tables import markdown_table, origin

COUNTED = {"sent": "bytes exchanged", "summed": "bytes summed", "exchanges": "exchanges", "sums": "sums"}


def scaling_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench scaling`: predicted beside counted traffic, and predicted steps."""
    figures = content["figures"]
    device = figures["device"]
    counted = [
        (
            row["experiment"],
            f"{row['processes']}",
            *(f"{row['predicted'][name]:,.0f} / {row['counted'][name]:,.0f}" for name in COUNTED),
            f"{row['experts']:,}",
        )
        for row in figures["counted"]
    ]
    predicted = [(row["experiment"], f"{row['devices']}", *_predicted(row)) for row in figures["predicted"]]
    headings = [
        "model",
        "devices",
        "bytes of rows sent per word",
        "FLOPs per byte sent",
        "seconds per step",
        "of which rows are sent",
        "speed-up",
    ]
    return "\n\n".join(
        [
            "# Traffic and steps of training with sharded experts",
            origin(content),
            f"Predicted / counted, of one process in one step of {figures['words_per_batch']:,} random words at "
            f"{figures['scale']} scale, over gloo; and what the experts of one process take, weights, gradients "
            "and Adam's state, counted:",
            markdown_table(["model", "processes", *COUNTED.values(), "bytes of experts"], counted),
            "**Predicted, not measured**: steps at paper scale on devices that reach "
            f"{device['flops'] / 1e12:g} TFLOP/s in training and {device['bandwidth'] / 1e9:g} GB/s to each other, "
            f"with {device['latency'] * 1e6:g} µs for any exchange or sum; computing and sending take turns. "
            "Memory is left aside: `outrageous-audit EXPERIMENT --devices …` says where a model fits. Without figures: "
            "too few experts, or groups of them, for so many devices.",
            markdown_table(headings, predicted),
        ]
    )


def _predicted(row: dict[str, Any]) -> tuple[str, ...]:
    if row["seconds"] is None:
        return ("-",) * 5
    return (
        f"{row['rows_per_word']:,.0f}",
        f"{row['flops_per_byte']:,.0f}" if row["flops_per_byte"] else "-",
        f"{row['seconds']:.3g}",
        f"{row['sending']:.1%}",
        f"{row['speed_up']:.1f}",
    )
