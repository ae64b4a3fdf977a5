"""The benchmarks of translation, of decoding and of training: return the files to save, and print what they say."""

import argparse
from dataclasses import asdict
from typing import Any

from outrageous.commands.bench_sizes import as_json, read_sizes

EXPERIMENT = "mt/moe_32"


def bench_decoding(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """Beam search of several widths against decoding that encodes everything again, by the length of the output."""
    import torch

    from outrageous.commands.compose import translation_config
    from outrageous.models.gnmt import TranslationModel
    from outrageous.results.decoding_tables import decoding_figure, decoding_markdown
    from outrageous.training.decoding_benchmark import decoding_speeds
    from outrageous.training.libraries import set_up_cpu

    sizes = read_sizes(arguments.what, settings)
    (num_sentences,), (source_length,) = sizes["sentences"], sizes["source"]
    config = translation_config([f"experiment={EXPERIMENT}", "gate=noisy_top_k", f"scale={arguments.scale}"])
    set_up_cpu(arguments.threads)
    torch.manual_seed(0)
    vocabulary_size = config.data.vocabulary_size
    model = TranslationModel(config.model, vocabulary_size).eval()
    source = torch.randint(4, vocabulary_size, (num_sentences, source_length))
    lengths = sorted(sizes["lengths"])
    speeds = decoding_speeds(model, source, lengths, sizes["beams"], arguments.rounds)
    content["figures"] = {
        "experiment": EXPERIMENT,
        "scale": arguments.scale,
        "num_sentences": num_sentences,
        "source_length": source_length,
        "lengths": lengths,
        "num_rounds": arguments.rounds,
        "speeds": [asdict(speed) for speed in speeds],
    }
    text, drawing = decoding_markdown(content), decoding_figure(content)
    print(text, end="")
    return {
        "decoding.json": as_json(content),
        "decoding.md": text.encode(),
        "decoding.svg": drawing.svg,
        "decoding.png": drawing.png,
    }


def bench_feedback(content: dict[str, Any], arguments: argparse.Namespace, settings: list[str]) -> dict[str, bytes]:
    """The decoder's first LSTM, which goes step by step in training, by the length of the targets."""
    import torch

    from outrageous.commands.compose import translation_config
    from outrageous.models.gnmt import TranslationModel
    from outrageous.results.feedback_table import feedback_markdown
    from outrageous.training.feedback_benchmark import WHOLE, feedback_speeds
    from outrageous.training.libraries import quieten, set_up_cpu

    sizes = read_sizes(arguments.what, settings)
    (num_pairs,), (source_length,) = sizes["pairs"], sizes["source"]
    config = translation_config([f"experiment={EXPERIMENT}", f"scale={arguments.scale}"])
    quieten()
    set_up_cpu(arguments.threads)
    torch.manual_seed(0)
    model = TranslationModel(config.model, config.data.vocabulary_size)
    speeds = feedback_speeds(model, num_pairs, source_length, sizes["lengths"], arguments.rounds)
    content["figures"] = {
        "experiment": EXPERIMENT,
        "scale": arguments.scale,
        "num_pairs": num_pairs,
        "source_length": source_length,
        "num_rounds": arguments.rounds,
        "whole": WHOLE,
        "speeds": [asdict(speed) for speed in speeds],
    }
    text = feedback_markdown(content)
    print(text, end="")
    return {"feedback.json": as_json(content), "feedback.md": text.encode()}
