"""Benchmarks of the layer: each returns the files to save, and prints what they say."""

import argparse
from dataclasses import asdict
from typing import Any

from outrageous.commands.bench_sizes import as_json, read_sizes, save


def bench_layer(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """One MoE layer, what bounds it, other packages' layers."""
    from outrageous.training.contestants import LayerSize
    from outrageous.training.layer_benchmark import measure_layer, measure_peaks
    from outrageous.training.libraries import set_up_cpu
    from outrageous.training.peers import versions

    set_up_cpu(arguments.threads)
    sizes = read_sizes(arguments.what, settings)
    (d_model,), (d_hidden,), (k,) = sizes["d_model"], sizes["d_hidden"], sizes["k"]
    content["versions"] |= versions()
    figures: dict[str, list[Any]] = {"sizes": [], "peaks": []}
    content["figures"] = figures
    for num_experts in sizes["experts"]:
        for num_tokens in sizes["tokens"]:
            size = LayerSize(num_experts, num_tokens, d_model, d_hidden, k)
            figures["sizes"].append(measure_layer(size, arguments.rounds))
            if arguments.save:  # so that a stop loses one size at most
                save(_layer_files(content))
        size = LayerSize(num_experts, max(sizes["tokens"]), d_model, d_hidden, k)
        figures["peaks"].append(asdict(size) | {"bytes": measure_peaks(size)})
    files = _layer_files(content)
    print(files["layer.md"].decode(), end="")
    return files


def _layer_files(content: dict[str, Any]) -> dict[str, bytes]:
    from outrageous.results.layer_tables import layer_markdown

    return {"layer.json": as_json(content), "layer.md": layer_markdown(content).encode()}


def bench_cost(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """One layer against the number of experts."""
    from outrageous.results.cost_figure import cost_figure
    from outrageous.results.layer_tables import cost_markdown
    from outrageous.training.contestants import LayerSize
    from outrageous.training.gating_benchmark import measure_cost
    from outrageous.training.libraries import set_up_cpu

    set_up_cpu(arguments.threads)
    sizes = read_sizes(arguments.what, settings)
    (num_tokens,), (d_model,), (d_hidden,), (k,) = (sizes[name] for name in ("tokens", "d_model", "d_hidden", "k"))
    size = LayerSize(max(sizes["experts"]), num_tokens, d_model, d_hidden, k)
    content["figures"] = measure_cost(size, sizes["experts"], arguments.rounds)
    text, drawing = cost_markdown(content), cost_figure(content)
    print(text, end="")
    return {"cost.json": as_json(content), "cost.md": text.encode(), "cost.svg": drawing.svg, "cost.png": drawing.png}


def bench_products(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """Experts' products alone, by the rows that each gets; on a GPU where there is one. What has been measured is saved
    where a later size ends the process."""
    import torch

    from outrageous.results.products_table import products_markdown
    from outrageous.training.libraries import set_up_cpu
    from outrageous.training.products_benchmark import BankSize, measure_products

    set_up_cpu(arguments.threads)
    sizes = read_sizes(arguments.what, settings)
    (d_model,), (d_hidden,) = sizes["d_model"], sizes["d_hidden"]
    banks = [BankSize(n, rows, d_model, d_hidden) for n in sizes["experts"] for rows in sizes["rows"]]
    name = "products_gpu" if torch.cuda.is_available() else "products"
    files: dict[str, bytes] = {}
    for content["figures"] in measure_products(banks, arguments.rounds):
        files = {f"{name}.json": as_json(content), f"{name}.md": products_markdown(content).encode()}
        if arguments.save:
            save(files)
    print(products_markdown(content), end="")
    return files


def bench_memory(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """What each memory saving of appendix D saves and costs."""
    from outrageous.results.savings_table import savings_markdown
    from outrageous.training.contestants import LayerSize
    from outrageous.training.memory_benchmark import measure_savings

    sizes = read_sizes(arguments.what, settings)
    (num_experts,), (num_tokens,) = sizes["experts"], sizes["tokens"]
    (d_model,), (d_hidden,), (k,) = sizes["d_model"], sizes["d_hidden"], sizes["k"]
    size = LayerSize(num_experts, num_tokens, d_model, d_hidden, k)
    content["figures"] = measure_savings(size, arguments.rounds, arguments.threads)
    text = savings_markdown(content)
    print(text, end="")
    return {"memory.json": as_json(content), "memory.md": text.encode()}
