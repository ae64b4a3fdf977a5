"""What spreading experts costs and gains as Markdown, from the figures that `outrageous-bench sharding` saves."""

from typing import Any

from outrageous.results.layer_tables import markdown_table, origin


def sharding_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench sharding` -> a row for each way to train."""
    figures = content["figures"]
    rows = [
        (
            "spread" if row["spread"] else "as they are",
            f"{row['processes']}",
            f"{row['threads']}",
            f"{row['words_per_second']:,.0f}",
            f"{row['ratio']:.3f}" if row["spread"] else "-",
            f"{row['in_calls']:.1%}",
        )
        for row in figures["rows"]
    ]
    headings = ["experts", "processes", "threads of each", "words/s", "words/s / the row before", "time in calls"]
    setting = (
        f"{figures['experiment']} at {figures['scale']} scale: whole training steps on the same batches; medians over "
        f"{figures['num_rounds']} rounds, in each of which every way took a turn of {figures['num_steps']} steps after "
        "one that does not count. Time in calls: the share within exchanges and sums, waiting for other processes "
        "included, which is the most that computing meanwhile could save."
    )
    return (
        "\n\n".join(
            [
                "# Training steps with experts spread over processes",
                origin(content),
                setting,
                markdown_table(headings, rows),
            ]
        )
        + "\n"
    )
