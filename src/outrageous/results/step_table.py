"""Speed of training steps as Markdown, from the figures that `outrageous-bench step` saves."""

from typing import Any

from outrageous.results.layer_tables import markdown_table, origin


def step_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench step` -> a row for each model, and where its time goes; and a line for each that did
    not run."""
    figures = content["figures"]
    failed = [f"- {row['experiment']}: {row['reason']}" for row in figures["rows"] if "reason" in row]
    measured = [row for row in figures["rows"] if "reason" not in row]
    tables = _tables(figures, measured) if measured else []
    did_not_run = ["Did not run:", "\n".join(failed)] if failed else []
    return "\n\n".join(["# Speed of training steps", origin(content), *tables, *did_not_run]) + "\n"


def _tables(figures: dict[str, Any], measured: list[dict[str, Any]]) -> list[str]:
    first = measured[0]
    speeds = [
        (
            row["experiment"],
            f"{row['words_per_second']:,.0f}",
            f"{row['words_per_second'] / first['words_per_second']:.2f}",
            f"{1000 * row['seconds']:,.1f}",
            f"{row['tflops']:,.4g}",
            f"{row['dense_tflops']:,.4g}",
            f"{row['share_of_dense']:.1%}",
            f"{row['expert_tflops']:,.4g} ({row['expert_share_of_dense']:.1%})" if row.get("expert_tflops") else "-",
            f"{row['peak'] / 1e9:,.2f}",
            f"{row['predicted_peak'] / 1e9:,.2f}" if row.get("predicted_peak") else "-",
        )
        for row in measured
    ]
    headings = [
        "model",
        "words/s",
        f"words/s / {first['experiment']}'s",
        "step, ms",
        "TFLOP/s",
        "dense product, TFLOP/s",
        "share of it",
        "experts' TFLOP/s (share)",
        "peak, GB",
        "predicted, GB",
    ]
    parts = [
        (
            row["experiment"],
            *(f"{1000 * share * row['seconds']:,.1f} ({share:.0%})" for share in row["parts"].values()),
        )
        for row in measured
    ]
    setting = (
        f"Batches of {first['words_per_batch']:,} words, {first['precision']}. Whole steps, from fetching the batch to "
        f"the end of the update: medians of {figures['num_stretches']} stretches of {figures['num_steps']} steps, "
        f"after each of which a GPU is waited for, in each of {figures['num_rounds']} processes, which took turns. "
        "TFLOP/s as the paper counts them (a multiply-add is two, forward and backward three times the forward pass), "
        "beside a product of large square matrices in the dtype of computation; experts': theirs alone, in the time "
        "that goes to them. Peak: of a GPU's memory, beside the predicted one, or, without a GPU, of the process."
    )
    of_parts = (
        "Milliseconds, and share of the step: shares by the profiler, from further steps of each process. What the "
        "backward pass does is counted with the part of the forward pass that it belongs to; waiting: what of a step's "
        "time, untraced, is left when a GPU's for all parts is taken from it."
    )
    return [
        setting,
        markdown_table(headings, speeds),
        of_parts,
        markdown_table(["model", *first["parts"]], parts),
    ]
