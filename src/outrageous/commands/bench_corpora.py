"""Benchmarks of corpora and vocabularies: each returns the files to save, and prints what they say."""

import argparse
from typing import Any

from outrageous.commands.bench_sizes import SIZES, as_json, read_sizes
from outrageous.errors import UserError


def bench_data(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """Corpora prepared and read."""
    from outrageous.commands.compose import run_config
    from outrageous.results.corpus_tables import corpus_markdown
    from outrageous.training.corpus_benchmark import measure_corpora

    sizes = read_sizes(arguments.what, settings)
    (num_types,) = sizes["types"]
    config = run_config(["experiment=lm/moe_4", "scale=paper", "data=lm1b"]).data
    content["figures"] = {"num_types": num_types} | measure_corpora(
        config, sorted(sizes["words"]), num_types, arguments.rounds
    )
    text = corpus_markdown(content)
    print(text, end="")
    return {"data.json": as_json(content), "data.md": text.encode()}


def bench_vocabulary(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """A step with a large vocabulary, by the optimizer of its tables; on a GPU where there is one."""
    import torch

    from outrageous.commands.compose import run_config
    from outrageous.results.corpus_tables import vocabulary_markdown
    from outrageous.training.vocabulary_benchmark import measure_vocabulary

    sizes = read_sizes(arguments.what, settings)
    (num_types,), (num_tokens,), (d_model,), (num_sampled,) = (sizes[name] for name in SIZES["vocabulary"])
    if num_sampled >= num_types:
        raise UserError(f"sampled={num_sampled}: must be fewer than types={num_types}")
    there = torch.cuda.is_available()
    config = run_config(
        [
            *("experiment=lm/moe_4", "scale=paper", f"scale.d_model={d_model}", f"model.num_sampled={num_sampled}"),
            f"trainer.words_per_batch={num_tokens}",
            f"trainer={'gpu' if there else 'auto'}",
        ]
    )
    content["figures"] = measure_vocabulary(config, num_types, arguments.rounds, arguments.threads)
    text = vocabulary_markdown(content)
    print(text, end="")
    name = "vocabulary_gpu" if there else "vocabulary"
    return {f"{name}.json": as_json(content), f"{name}.md": text.encode()}
