"""Perplexity of a checkpoint: `outrageous-evaluate checkpoint=….ckpt`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from outrageous.commands.compose import from_plain, hydra_command, register, settings_errors
from outrageous.config import CorpusConfig, RunConfig
from outrageous.errors import UserError


@dataclass
class EvaluateConfig:
    """data: another corpus, with the checkpoint's vocabulary; null for the one that it was trained on."""

    checkpoint: str
    data: CorpusConfig | None = None


register()
ConfigStore.instance().store(name="evaluate_config", node=EvaluateConfig)


@hydra_command("evaluate")
def main(config: DictConfig) -> None:
    # Imported here, so that --help answers at once.
    from outrageous.training.checkpoints import KEY, read_checkpoint
    from outrageous.training.evaluation import evaluate

    if OmegaConf.is_missing(config, "checkpoint"):
        raise UserError("which checkpoint? Give checkpoint=….ckpt")
    path = Path(config.checkpoint)
    plain: dict[str, Any] = read_checkpoint(path)[KEY]["config"]
    with settings_errors([]):
        data = None if config.data is None else OmegaConf.to_object(config.data)
    assert data is None or isinstance(data, CorpusConfig)
    trained = from_plain(plain)
    if not isinstance(trained, RunConfig):
        raise UserError(
            f"checkpoint {path} is a translation model: its record has its figures; see outrageous-translate"
        )
    for name, value in evaluate(trained, path, data).items():
        print(f"{name} {value:.4f}")


if __name__ == "__main__":
    main()
