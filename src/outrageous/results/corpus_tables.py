"""Speed and memory of corpora, and of the vocabulary's step, as Markdown, from what `outrageous-bench` saves."""

from statistics import linear_regression
from typing import Any

from outrageous.results.layer_tables import markdown_table, origin

OPTIMIZERS = {
    "adam": "Adam",
    "sparse_adam": "Adam on the rows used",
    "factored_adam": "factored Adam",
}


def corpus_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench data` -> a row for each size prepared, and how batches are read from the largest."""
    preparations, batches = content["figures"]["preparations"], content["figures"]["batches"]
    rows = [
        (
            f"{entry['words']:,}",
            f"{entry['bytes'] / 1e9:.2f}",
            f"{entry['seconds']:,.1f}",
            f"{entry['words'] / entry['seconds']:,.0f}",
            f"{entry['memory'] / 1e9:.2f}",
        )
        for entry in preparations
    ]
    words, seconds = ([entry[name] for entry in preparations] for name in ("words", "seconds"))
    return "\n\n".join(
        [
            "# Preparing and reading a corpus",
            origin(content),
            f"Generated text in the form of One Billion Word, {content['figures']['num_types']:,} different words at "
            f"most, on {content['hardware']['cores']} cores. Preparation: from text files to packed ids, start of the "
            "process included. Memory: of all its processes together, the highest of five looks a second; on Linux "
            "pages that several share count once.",
            markdown_table(["words", "text, GB", "seconds", "words/s", "memory, GB"], rows),
            _fit(words, seconds),
            f"Batches of {batches['words_per_batch']:,} words from the largest, one process: "
            f"{batches['words_per_second']:,.0f} words/s ({_passes(batches['num_epochs'])}); the first "
            f"{batches['seconds_to_first']:.1f} s after the start of the process; at most "
            f"{batches['memory'] / 1e9:.2f} GB resident.\n",
        ]
    )


def _passes(number: int) -> str:
    return "one pass" if number == 1 else f"median of {number} passes"


def _fit(words: list[int], seconds: list[float]) -> str:
    """How well a straight line fits: time that is linear in the size, after some for the start."""
    if len(words) < 3:
        return "A straight line would fit fewer than three sizes exactly."
    slope, start = linear_regression(words, seconds)
    off = max(abs(start + slope * x - y) / y for x, y in zip(words, seconds, strict=True))
    return (
        f"Fitted by least squares: {start:.1f} s + {slope * 1e6:.3f} s for each million words; the size furthest from "
        f"this line lies {off:.1%} off."
    )


def vocabulary_markdown(content: dict[str, Any]) -> str:
    """The saved content of `bench vocabulary` -> a row for each optimizer of the tables."""
    figures = content["figures"]
    precision = "in bfloat16 where that does no harm" if figures.get("precision") == "bf16-mixed" else "in float32"
    rows = [
        (
            OPTIMIZERS[row["optimizer"]],
            *(f"{row[name] / 1e9:.2f}" for name in ("weights", "gradients", "state", "peak")),
            *(f"{row[name]:,.2f}" for name in ("forward_backward", "update", "step")),
            f"{figures['num_tokens'] / row['step']:,.0f}",
        )
        for row in figures["rows"]
    ]
    headings = ["tables' optimizer", "weights, GB", "gradients, GB", "state, GB", "peak, GB"]
    headings += ["forward + backward, s", "clipping + update, s", "step, s", "words/s"]
    return "\n\n".join(
        [
            "# A step with a large vocabulary",
            origin(content),
            f"lm/moe_4 at paper sizes but for the batch: {figures['vocabulary_size']:,} words, "
            f"d = {figures['d_model']}, {figures['num_sampled']:,} sampled classes, "
            f"{figures['num_tokens']:,} words a batch by Zipf's law, {precision}. Embedding and softmax: "
            f"{figures['table_parameters'] / 1e6:,.0f}M of {figures['parameters'] / 1e6:,.0f}M parameters. Weights, "
            "gradients and state of all parameters, counted after a step; peak, measured: the most that was resident, "
            "or that was allocated on a GPU. "
            f"Medians of {figures['num_steps']} steps in each of {figures['num_rounds']} processes, which took turns.",
            markdown_table(headings, rows),
            "Adam on the rows used updates no row that the batch does not look up (what that changes: "
            "`src/outrageous/optim/build.py`).\n",
        ]
    )
