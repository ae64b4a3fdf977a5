"""Perplexity, and of translations BLEU, of a checkpoint: `outrageous-evaluate checkpoint=….ckpt`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from outrageous.commands.compose import from_plain, hydra_command, settings_errors
from outrageous.config import CorpusConfig, RunConfig
from outrageous.errors import UserError


@dataclass
class EvaluateConfig:
    """
    Attributes:
        data: of a language model, another corpus, with the checkpoint's vocabulary; null for the one that it was
            trained on.
        pairs: of a translation model, a file of source<TAB>target; null for its own dev and test parts.
        direction: of a translation model, the only one to test, as en-de; null for all.
    """

    checkpoint: str
    data: CorpusConfig | None = None
    pairs: str | None = None
    direction: str | None = None


ConfigStore.instance().store(name="evaluate_config", node=EvaluateConfig)


@hydra_command("evaluate")
def main(config: DictConfig) -> None:
    """Prints each figure on a line of its own. Raises UserError: what was given is not for this kind of model."""
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
    if isinstance(trained, RunConfig):
        if config.pairs is not None or config.direction is not None:
            raise UserError(f"checkpoint {path} is of a language model: give another text by data=…, not pairs=…")
        metrics, signature = evaluate(trained, path, data), ""
    else:
        from outrageous.training.translation_evaluation import evaluate_translation

        if data is not None:
            raise UserError(f"checkpoint {path} is of a translation model: give pairs=FILE in place of data=…")
        pairs = None if config.pairs is None else Path(config.pairs)
        metrics, signature = evaluate_translation(trained, path, pairs, config.direction)
    for name, value in metrics.items():
        print(f"{name} {value:.4f}")
    if signature:
        print(f"sacreBLEU: {signature}")


if __name__ == "__main__":
    main()
