"""From the files under conf/ and overrides to a checked `RunConfig`."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
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


def compose_train(overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """conf/train.yaml with overrides, outside of Hydra's own main. Raises UserError with Hydra's message."""
    register()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("train", overrides, return_hydra_config=with_hydra)
    except HydraException as error:
        raise UserError(str(error)) from error


def run_config(overrides: list[str]) -> RunConfig:
    """The settings of one run. Raises UserError if an override does not fit."""
    return to_run_config(compose_train(overrides))


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
