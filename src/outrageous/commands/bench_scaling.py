"""Benchmarks of training on several devices: each returns the files to save, and prints what they say."""

import argparse
from dataclasses import asdict
from typing import Any

from outrageous.commands.bench_sizes import as_json, experiments_of, read_sizes
from outrageous.errors import UserError

COUNTED = ("lm/moe_256", "lm/moe_256_h")
PREDICTED = (
    *("lm/moe_256", "lm/moe_256_h", "lm/moe_1024_h", "lm/moe_4096_h"),
    *("lm/news_moe_16384_h", "lm/news_moe_65536_h", "lm/news_moe_131072_h"),
)
VOCABULARY = 2000  # of the models that are counted


def bench_scaling(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """Traffic counted beside predicted, and steps predicted."""
    from outrageous.commands.compose import run_config
    from outrageous.parallel.traffic import Device
    from outrageous.results.scaling_table import scaling_markdown
    from outrageous.training.traffic_benchmark import measure_traffic

    sizes = read_sizes(arguments.what, settings)
    (words,), (tflops,), (gigabytes,), (microseconds,) = (sizes[name] for name in ("words", "tflops", "gbps", "us"))
    device = Device(tflops * 1e12, gigabytes * 1e9, microseconds / 1e6)
    counted = [
        {"experiment": name} | row
        for name in COUNTED
        for row in measure_traffic(
            run_config([f"experiment={name}", f"scale={arguments.scale}"]), VOCABULARY, words, sizes["processes"]
        )
    ]
    content["figures"] = {
        "scale": arguments.scale,
        "words_per_batch": words,
        "device": asdict(device),
        "counted": counted,
        "predicted": [row for name in PREDICTED for row in _predictions(name, sizes["devices"], device)],
    }
    text = scaling_markdown(content)
    print(text, end="")
    return {"scaling.json": as_json(content), "scaling.md": text.encode()}


def _predictions(experiment: str, devices: list[int], device: Any) -> list[dict[str, Any]]:
    """Of steps at paper scale; without the softmax's and the embedding's words beyond One Billion Word's, and without
    seconds where there are more devices than experts, or groups of them."""
    import torch

    from outrageous.commands.audit import ONE_BILLION_WORD
    from outrageous.commands.compose import run_config
    from outrageous.models.cost import cost
    from outrageous.models.language_model import LanguageModel
    from outrageous.parallel.traffic import predict_seconds, predict_traffic

    config = run_config([f"experiment={experiment}", "scale=paper"])
    with torch.device("meta"):
        model = LanguageModel(config.model, ONE_BILLION_WORD)
    words = config.trainer.words_per_batch
    alone = predict_seconds(model, words, 1, device)
    assert config.model.moe is not None
    rows: list[dict[str, Any]] = []
    for number in devices:
        if number > config.model.moe.num_units:
            rows.append({"experiment": experiment, "devices": number, "seconds": None})
            continue
        seconds = predict_seconds(model, words, number, device)
        sent = predict_traffic(model, words, number).rows * number / words if number > 1 else 0.0
        rows.append(
            {
                "experiment": experiment,
                "devices": number,
                "rows_per_word": sent,
                "flops_per_byte": cost(model).flops_per_training_word / sent if sent else None,
                "seconds": seconds,
                "sending": sent * words / number / device.bandwidth / seconds,
                "speed_up": alone / seconds,
            }
        )
    return rows


def bench_sharding(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """What spreading experts over processes costs on one, and gains on several."""
    from outrageous.commands.compose import run_config
    from outrageous.results.sharding_table import sharding_markdown
    from outrageous.training.sharding_benchmark import measure_sharding

    names, others = experiments_of(settings)
    if len(names) > 1:
        raise UserError(f"sharding: one experiment, not {','.join(names)}")
    overrides = [f"scale={arguments.scale}", "trainer=expert_parallel", "trainer.devices=2", *others]
    config = run_config([f"experiment={names[0] if names else 'lm/moe_256'}", *overrides])
    content["figures"] = {"scale": arguments.scale} | measure_sharding(config, arguments.threads, arguments.rounds)
    text = sharding_markdown(content)
    print(text, end="")
    return {"sharding.json": as_json(content), "sharding.md": text.encode()}
