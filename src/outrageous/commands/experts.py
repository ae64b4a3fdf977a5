"""Look at the experts of a trained model (table 9): the words that each is chosen for most, in their contexts.

outrageous-experts checkpoint=outputs/runs/mt/moe_32_en_de/pocket/seed_0/…/best.ckpt
outrageous-experts checkpoint=….ckpt --part dev --to looked_at/

Reads the test part of the corpus that the model was trained on. Writes experts.txt and experts.html beside the
checkpoint, those of the dev part into a folder `dev` there, and a table into the run's W&B run; prints how much experts
tell of their words, beside a shuffled control.
A run of a translation model ends with the same.
"""

import argparse
from pathlib import Path

from outrageous.commands.errors import one_clear_message
from outrageous.errors import UserError


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when the files are written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=_checkpoint, help="checkpoint=PATH, a best.ckpt of a model with experts")
    parser.add_argument("--part", choices=("dev", "test"), default="test", help="of the corpus (default: test)")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where the files go")
    arguments = parser.parse_args(argv)

    # Imported here, so that --help answers at once.
    from outrageous.commands.compose import from_plain
    from outrageous.training.checkpoints import KEY, check_own, load_weights, read_checkpoint
    from outrageous.training.expert_use import expert_use, leave_expert_use
    from outrageous.training.libraries import quieten, set_up_cpu
    from outrageous.training.run_folder import RunFolder
    from outrageous.training.tasks import build_data, build_module, prepare
    from outrageous.training.tracking import log_expert_use, make_logger

    path: Path = arguments.checkpoint
    config = from_plain(read_checkpoint(path)[KEY]["config"])
    if config.model.moe is None:
        raise UserError(f"checkpoint {path} is of {config.name}, which has no experts; give one of a model with some")
    quieten()
    set_up_cpu(config.trainer.num_threads)
    corpus = prepare(config)
    check_own(path, corpus)
    module = build_module(config, len(corpus.vocabulary), origin={})
    load_weights(module, path, corpus)
    data = build_data(config, corpus)
    batches = data.test_dataloader() if arguments.part == "test" else data.val_dataloader()
    uses = expert_use(module, batches, corpus.vocabulary)
    beside = path.parent if arguments.part == "test" else path.parent / arguments.part
    folder = RunFolder(beside if arguments.to is None else arguments.to)
    leave_expert_use(uses, folder, f"{config.name} seed {config.seed}, {arguments.part} part")
    logger = make_logger(config, path.parent)
    log_expert_use(logger, uses)
    logger.experiment.finish()
    for use in uses:
        print(use.statistic())
    print(f"Written:\n  {folder.experts_text}\n  {folder.experts_page}")
    return 0


def _checkpoint(text: str) -> Path:
    return Path(text.removeprefix("checkpoint="))


if __name__ == "__main__":
    raise SystemExit(main())
