"""Trains one model: `outrageous-train experiment=lm/moe_32`. `--help` lists groups and examples."""

import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from outrageous.commands.compose import hydra_command, table_row, to_run_config, variations
from outrageous.commands.launch import launch, must_launch


@hydra_command("train")
def main(config: DictConfig) -> None:
    """Trains, or starts the processes that do; prints the figures and where they are."""
    run_config = to_run_config(config)

    # Imported here, so that --help and most mistakes are answered at once.
    from outrageous.training.processes import is_first_process
    from outrageous.training.run import is_finished, run
    from outrageous.training.tracking import how_to_look

    _warn_of_small_text(run_config.scale.name, run_config.data.name)
    overrides = list(HydraConfig.get().overrides.task)
    run_config.logger.tags += variations(overrides)
    in_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
    if in_sweep and run_config.logger.group is None:
        run_config.logger.group = f"{run_config.name} sweep"
    if must_launch(run_config.trainer, in_sweep) and not is_finished(run_config):
        group = run_config.logger.group
        of_sweep = [] if group is None else [f"logger.group='{group}'"]
        settings = [each for each in overrides if not each.startswith("sweep=")] + of_sweep
        launch(run_config.trainer, [*_same_files(), *settings])
        return  # the first of the processes has told
    record, folder = run(run_config, table_row(run_config, overrides))
    if not is_first_process():
        return
    figures = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items())
    print(f"{run_config.name} ({run_config.scale.name}, seed {run_config.seed}): {figures}")
    print(f"Record: {folder.record}")
    if folder.trace.exists():
        print(f"Trace: {folder.trace} (open it at https://ui.perfetto.dev or in TensorBoard)")
    if look := how_to_look(folder.path):
        print(look)


def _same_files() -> list[str]:
    """The options of this command line, wherever Hydra has come by them, that say which files have the settings."""
    hydra = HydraConfig.get()
    folders = {source.provider: source.path for source in hydra.runtime.config_sources}
    further = [f"--config-dir={folders['command-line']}"] if "command-line" in folders else []
    searched = [each for each in hydra.overrides.hydra if each.startswith("hydra.searchpath=")]
    return [f"--config-path={folders['main']}", f"--config-name={hydra.job.config_name}", *further, *searched]


def _warn_of_small_text(scale: str, corpus: str) -> None:
    """Says on stderr that the shipped text, the default of `data`, is no corpus for a model of the paper's size."""
    if scale == "paper" and corpus.startswith("pocket"):
        print(
            f"warning: scale=paper with data={corpus}, the small shipped text: its results cannot be compared with the "
            "paper's, which are on data=lm1b (fetched by `make data-lm1b`), data=wmt14_en_de and data=wmt14_en_fr",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
