"""From the files under conf/ and overrides to a checked `RunConfig`."""

from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from outrageous.config import RunConfig
from outrageous.errors import UserError

CONF = Path(__file__).parents[3] / "conf"

# Overrides that leave a preset the preset that it is: where, by whom and how often it is run, not what is run.
_CHANGE_NO_RESULT = (
    "experiment",
    "scale",
    "seed",
    "sweep",
    "paths.",
    "logger",
    "trainer.num_threads",
    "hydra.",
    "hydra/",
)


def register() -> None:
    """Makes the schema and the resolver `mul` known to Hydra; before any configuration is composed."""
    ConfigStore.instance().store(name="run_config", node=RunConfig)
    OmegaConf.register_new_resolver("mul", lambda a, b: a * b, replace=True)


def to_run_config(config: DictConfig) -> RunConfig:
    """Raises UserError, naming the key, if a setting is missing or of the wrong type."""
    if OmegaConf.is_missing(config, "name"):
        raise UserError(f"which experiment? Give experiment=… with one of {', '.join(experiments())}")
    try:
        run_config = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(f"configuration: {error}") from error
    assert isinstance(run_config, RunConfig)
    return run_config


def experiments() -> list[str]:
    """Every preset, as `experiment=` takes it."""
    folder = CONF / "experiment"
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))


def from_plain(plain: dict[str, Any]) -> RunConfig:
    """The settings that a record or checkpoint keeps. Raises UserError if they are not of this version's form."""
    try:
        return to_run_config(OmegaConf.merge(OmegaConf.structured(RunConfig), plain))
    except OmegaConfBaseException as error:
        raise UserError(f"stored configuration does not fit this version: {error}") from error


def table_row(config: RunConfig, overrides: list[str]) -> str | None:
    """The row of the paper's table, or None if an override makes this a variation of the row's preset."""
    if all(override.lstrip("+~").startswith(_CHANGE_NO_RESULT) for override in overrides):
        return config.name.split("/")[-1]
    return None
