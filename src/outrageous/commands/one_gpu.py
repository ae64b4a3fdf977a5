"""The paper's largest models on one GPU: with which settings, and what memory they are predicted to take."""

from outrageous.results.audit_tables import Grid

GIGABYTE = 1e9
CARD = 139 * 2**30  # bytes of an H200
# Table 7, and the largest model of tables 2 to 4.
MODELS = (
    *("lm/lstm_512_512", "lm/lstm_1024_512", "lm/lstm_2048_512", "lm/4xlstm_512", "lm/2xlstm_8192_1024"),
    *("lm/moe_1_wide", "lm/moe_1_deep", "lm/moe_4", "lm/moe_32", "lm/moe_256", "lm/moe_256_h", "lm/moe_1024_h"),
    *("lm/moe_4096_h", "lm/moe_34m", "lm/moe_143m", "mt/moe_2048_h"),
)
SAVING = ("lm/moe_34m", "lm/moe_143m", "mt/moe_2048_h")
HEADINGS = ["experiment, and what goes with `scale=paper trainer=gpu`", "weights", "optimizer", "gradients", "peak"]
HEADINGS += ["of 139 GiB"]
NOTES = (
    "GB (10⁹ bytes), predicted from the step as a GPU computes it (src/outrageous/training/predicted_memory.py), not "
    "measured on one. peak: the most at a time, of weights, optimizer, gradients and activations. About a gigabyte of "
    "CUDA's own is not counted.",
    "`python -m outrageous.commands.bench fit scale=paper --save` takes 20 steps of each on a GPU, and sets the "
    "measured peak beside.",
)


def settings_of(experiment: str) -> list[str]:
    """What it needs beside scale=paper and trainer=gpu to fit: of translation the 16,000 words that each of the paper's
    GPUs had."""
    savings = ["savings=appendix_d"] if experiment in SAVING else []
    return savings + (["trainer.words_per_batch=16000"] if experiment.startswith("mt/") else [])


def grid_of(experiments: tuple[str, ...] = MODELS) -> Grid:
    """Predicted memory of each."""
    from outrageous.commands.audit import vocabulary_of
    from outrageous.commands.compose import any_config
    from outrageous.training.predicted_memory import predict_memory

    rows = []
    for experiment in experiments:
        settings = settings_of(experiment)
        config = any_config([f"experiment={experiment}", "scale=paper", "trainer=gpu", *settings])
        memory = predict_memory(config, vocabulary_of(config))
        sizes = (memory.weights, memory.optimizer, memory.gradients, memory.peak)
        cells = [f"{size / GIGABYTE:,.1f}" for size in sizes]
        rows.append([f"`{' '.join([experiment, *settings])}`", *cells, f"{memory.peak / CARD:.0%}"])
    return Grid("Predicted memory", HEADINGS, rows, [])
