"""From the files under conf/ and overrides to a checked `RunConfig`."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from outrageous.commands.errors import one_clear_message
from outrageous.config import AnyRunConfig, Layer, RunConfig, TranslationRunConfig
from outrageous.errors import UserError
from outrageous.results.records import row_of

CONF = Path(__file__).parents[3] / "conf"

# Overrides that leave a preset the preset that it is: where, by whom and how often it is run, not what is run.
_CHANGE_NO_RESULT = {
    *("experiment", "scale", "seed", "sweep", "logger", "trainer", "trainer.num_threads", "trainer.strategy"),
    *("trainer.devices", "trainer.num_nodes", "trainer.timeout", "trainer.sharded_checkpoints", "trainer.profile"),
}

# Schemas and resolvers, made known to Hydra where this is imported: in a process too that one of its launchers starts.
for _task, _schema in {"language": RunConfig, "translation": TranslationRunConfig}.items():
    ConfigStore.instance().store(group="task", name=_task, node=_schema, package="_global_")
OmegaConf.register_new_resolver("mul", lambda a, b: a * b, replace=True)
OmegaConf.register_new_resolver("underscored", lambda names: "_".join(names).replace("-", "_"), replace=True)


def hydra_command(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Makes a function of the settings a command: Hydra composes them from conf/<config_name>.yaml and the command
    line, and every mistake ends with one clear message."""

    def decorate(body: Callable[[DictConfig], None]) -> Callable[[], None]:
        composed = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)

        @functools.wraps(body)
        @one_clear_message
        def command() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors, where Hydra would print them and exit
            with settings_errors(sys.argv[1:]):
                composed(one_clear_message(body))()

        return command

    return decorate


@contextmanager
def settings_errors(overrides: list[str]) -> Iterator[None]:
    """Turns what Hydra and OmegaConf have to say about settings into a UserError of one line that names the key."""
    try:
        yield
    except MissingConfigException as error:
        if "submitit" in (missing := str(error.missing_cfg_file)):
            raise UserError(f"{missing} needs another package: pip install -e '.[slurm]'") from error
        raise UserError(f"there is no {error.missing_cfg_file}; outrageous-train --help lists what there is") from error
    except OverrideParseException as error:
        raise UserError(f"cannot read {error.override!r}: settings are written KEY=VALUE") from error
    except HydraException as error:  # names the override; the cause says what is wrong with it
        both = [error, error.__cause__] if isinstance(error.__cause__, OmegaConfBaseException) else [error]
        raise UserError(": ".join(_first_line(each) for each in both)) from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {_first_line(error)}") from error
    except AssertionError as error:
        if "Unexpected type for root" not in str(error):
            raise
        # This is all that OmegaConf 2.3 says of a key whose parent is null.
        keys = ", ".join(override for override in overrides if "." in override.split("=")[0])
        raise UserError(
            f"one of {keys} belongs to settings that are null here, as model.moe is in a model without an MoE"
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def to_run_config(config: DictConfig) -> AnyRunConfig:
    """Raises UserError, naming the key, if a setting is missing or of the wrong type."""
    if OmegaConf.is_missing(config, "name"):
        raise UserError(f"which experiment? Give experiment=… with one of {', '.join(experiments())}")
    if config.model.moe is not None and Layer.moe not in config.model.get("layers", [Layer.moe]):
        raise UserError(
            "model.layers and model.moe contradict each other: gate=… and model.moe.… are settings of an MoE, which "
            f"{config.name} does not have here"
        )
    if missing := list(_missing(OmegaConf.to_container(config, resolve=False))):
        raise UserError(f"{missing[0]} is not set: give {' '.join(f'{key}=…' for key in missing)}")
    with settings_errors([]):
        run_config = OmegaConf.to_object(config)
    assert isinstance(run_config, RunConfig | TranslationRunConfig)
    return run_config


def _missing(plain: Any, prefix: str = "") -> Iterator[str]:
    """The keys below this one without a value."""
    for key, value in plain.items() if isinstance(plain, dict) else ():
        if value == "???":
            yield f"{prefix}{key}"
        yield from _missing(value, f"{prefix}{key}.")


def compose_train(overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """conf/train.yaml with overrides, outside of Hydra's own main. Raises UserError if an override does not fit."""
    with settings_errors(overrides), initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides, return_hydra_config=with_hydra)


def any_config(overrides: list[str]) -> AnyRunConfig:
    """The settings of one run. Raises UserError if an override does not fit."""
    return to_run_config(compose_train(overrides))


def run_config(overrides: list[str]) -> RunConfig:
    """The settings of one run of a language model. Raises UserError if an override does not fit, and for a translation
    model."""
    config = any_config(overrides)
    if not isinstance(config, RunConfig):
        raise UserError(f"{config.name} is a translation model: this is of language models only")
    return config


def translation_config(overrides: list[str]) -> TranslationRunConfig:
    """The settings of one run of a translation model. Raises UserError if an override does not fit, and for a language
    model."""
    config = any_config(overrides)
    if not isinstance(config, TranslationRunConfig):
        raise UserError(f"{config.name} is a language model: this is of translation models only")
    return config


def experiments() -> list[str]:
    """Every preset, as `experiment=` takes it."""
    folder = CONF / "experiment"
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))


def from_plain(plain: dict[str, Any]) -> AnyRunConfig:
    """The settings that a record or checkpoint keeps. Raises UserError if they are not of this version's form."""
    task = TranslationRunConfig if "directions" in (plain.get("data") or {}) else RunConfig  # whatever its name
    schema: DictConfig = OmegaConf.structured(task)
    try:
        schema.merge_with(plain)
    except OmegaConfBaseException as error:
        raise UserError(f"stored configuration does not fit this version: {_first_line(error)}") from error
    return to_run_config(schema)


def variations(overrides: list[str]) -> list[str]:
    """The overrides that make a run something else than its preset."""
    keys = {override: override.lstrip("+~").split("=")[0] for override in overrides}
    harmless = ("paths.", "logger.", "hydra.", "hydra/")
    return [text for text, key in keys.items() if key not in _CHANGE_NO_RESULT and not key.startswith(harmless)]


def table_row(config: AnyRunConfig, overrides: list[str]) -> str | None:
    """The row of the paper's table, or None if an override makes this a variation of the row's preset. The corpus of a
    translation model is no variation: its name says what it translates."""
    translates = isinstance(config, TranslationRunConfig)
    others = [each for each in variations(overrides) if not (translates and each.startswith("data="))]
    return None if others else row_of(config.name)
