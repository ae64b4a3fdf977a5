"""A whole run on one screen, of a language model or of translation: corpus, model, training, test, record."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from lightning_fabric.utilities.exceptions import MisconfigurationException

from outrageous.config import AnyRunConfig, RunConfig, Strategy, TrainerConfig
from outrageous.errors import UserError
from outrageous.models.cost import Cost, cost
from outrageous.parallel.processes import Processes
from outrageous.parallel.strategy import OneBatchStrategy
from outrageous.results.provenance import git_state, hardware, software_versions
from outrageous.results.records import Record, read_record, write_record
from outrageous.training.callbacks import Meter, RunProgress, ValidationAtTheEnd
from outrageous.training.checkpoints import BestAndLast, WholeFiles, check_resumable, load_weights
from outrageous.training.device_memory import enough_memory
from outrageous.training.libraries import exit_codes_of_signals, quieten, set_up_cpu
from outrageous.training.processes import is_first_process, lost_processes
from outrageous.training.run_folder import RunFolder, config_hash, plain_config, run_folder
from outrageous.training.settings import check_settings
from outrageous.training.supervised_module import SupervisedModule
from outrageous.training.tasks import (
    AnyDataModule,
    build_data,
    build_module,
    further_metrics,
    prepare,
    save_vocabulary,
)
from outrageous.training.tracing import Trace
from outrageous.training.tracking import ExpertLoadPlots, log_result, make_logger

REPOSITORY = Path(__file__).parents[3]


def run(config: AnyRunConfig, row: str | None) -> tuple[Record, RunFolder]:
    """Trains, tests with the weights of the lowest dev perplexity, and leaves a record. Goes on where an earlier call
    with the same settings stopped; returns its record if it finished. Where several processes train, somebody else
    starts them and each calls this; the first leaves the record.

    Args:
        row: the table row that the record belongs to, None for a variation of a preset.

    Raises:
        UserError: a setting, the text, a checkpoint or the disk does not allow it.
    """
    check_settings(config)
    origin = start_of_run()
    corpus = prepare(config)
    folder = run_folder(config, corpus.fingerprint)
    if folder.record.exists():
        return read_record(folder.record), folder
    quieten()
    set_up_cpu(config.trainer.num_threads)
    origin |= {
        "config": plain_config(config),
        "config_hash": config_hash(config, corpus.fingerprint),
        "data_fingerprint": corpus.fingerprint,
        "vocabulary_fingerprint": corpus.vocabulary.fingerprint,
    }
    with torch.device("meta"):  # the whole model, of which this process may have a part
        costs = cost(build_module(config, len(corpus.vocabulary), origin).model)
    meter = Meter(config.trainer.log_every, costs.flops_per_training_word)
    trainer = build_trainer(config, folder, meter)
    module = build_module(config, len(corpus.vocabulary), origin, _spread_over(trainer))
    with _alone(folder) if is_first_process() else nullcontext():
        data = build_data(config, corpus)
        if is_first_process():
            save_vocabulary(corpus, folder)
        with lost_processes(), enough_memory(config):
            metrics = _train_and_test(trainer, module, data, folder) | {"padding": data.padding_fraction()}
        if is_first_process():
            module, data = _undivided(module, data, config, folder)
            metrics |= further_metrics(module, data, folder, _title(config), trainer.logger)
        record = make_record(config, row, module, meter, costs, corpus.fingerprint, metrics)
        if is_first_process():
            write_record(record, folder.path)
            log_result(trainer, record)
            warn_of_another_cost(config, record.metrics)
    return record, folder


def is_finished(config: AnyRunConfig) -> bool:
    """Raises UserError where `run` would before it starts."""
    check_settings(config)
    return run_folder(config, prepare(config).fingerprint).record.exists()


def start_of_run() -> dict[str, Any]:
    """When and from which commit: asked for first, since files may change while a run lasts."""
    commit, dirty = git_state(REPOSITORY)
    return {"started_at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit, "dirty": dirty}


def build_trainer(config: AnyRunConfig, folder: RunFolder, meter: Meter) -> pl.Trainer:
    """Raises UserError if Lightning does not know the accelerator, or does not find it here."""
    settings = config.trainer
    progress = RunProgress(meter, folder.progress, title=_title(config))
    try:
        return pl.Trainer(
            accelerator=settings.accelerator,
            **_processes(settings),
            precision=settings.precision,  # type: ignore[arg-type] # checked by check_settings
            max_epochs=settings.max_epochs,
            max_steps=settings.max_steps,
            val_check_interval=settings.validate_every,
            # Steps are counted through the epochs, shares of a pass within each.
            check_val_every_n_epoch=None if isinstance(settings.validate_every, int) else 1,
            num_sanity_val_steps=0,
            log_every_n_steps=settings.log_every,
            logger=make_logger(config, folder.path),
            callbacks=[
                *(meter, ExpertLoadPlots(), progress, ValidationAtTheEnd(), BestAndLast(folder)),
                *([Trace(folder.trace)] if settings.profile else []),
            ],
            plugins=[WholeFiles()],
            default_root_dir=folder.path,
            enable_progress_bar=False,  # RunProgress shows the whole run instead
            enable_model_summary=False,
        )
    except (ValueError, MisconfigurationException) as error:
        devices = f"trainer.devices={settings.devices}, trainer.num_nodes={settings.num_nodes}"
        raise UserError(f"trainer.accelerator={settings.accelerator}: {error} (with {devices})") from error


def _processes(settings: TrainerConfig) -> dict[str, Any]:
    """What Lightning's Trainer is told of devices and processes."""
    devices = {"devices": settings.devices, "num_nodes": settings.num_nodes}
    if settings.strategy is Strategy.single:
        return devices
    shard_experts = settings.strategy is Strategy.expert_parallel
    strategy = OneBatchStrategy(shard_experts, settings.sharded_checkpoints, timedelta(seconds=settings.timeout))
    return devices | {"strategy": strategy, "use_distributed_sampler": False}


def _spread_over(trainer: pl.Trainer) -> Processes | None:
    """The processes of which each has experts of its own."""
    strategy = trainer.strategy
    return strategy.processes if isinstance(strategy, OneBatchStrategy) and strategy.shard_experts else None


def _title(config: AnyRunConfig) -> str:
    return f"{config.name} seed {config.seed}"


def _train_and_test(
    trainer: pl.Trainer, module: SupervisedModule, data: AnyDataModule, folder: RunFolder
) -> dict[str, float]:
    resume = folder.last_checkpoint if folder.last_checkpoint.exists() else None
    if resume is not None:
        check_resumable(resume, module.origin["config_hash"], data.corpus)
    with exit_codes_of_signals():
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    load_weights(module, folder.best_checkpoint, data.corpus)
    return dev_and_test(trainer, module, data)


def _undivided(
    module: SupervisedModule, data: AnyDataModule, config: AnyRunConfig, folder: RunFolder
) -> tuple[SupervisedModule, AnyDataModule]:
    """The module that was tested, with all of its experts, and the data, in whole batches: for one process to use.
    Language models have no use for that."""
    if config.trainer.strategy is Strategy.single or isinstance(config, RunConfig):
        return module, data
    whole = build_module(config, len(data.corpus.vocabulary), module.origin)
    load_weights(whole, folder.best_checkpoint, data.corpus)
    return whole.to(module.device).eval(), build_data(config, data.corpus)


def dev_and_test(trainer: pl.Trainer, module: SupervisedModule, data: AnyDataModule) -> dict[str, float]:
    """dev_perplexity and test_perplexity of the module's weights."""
    with exit_codes_of_signals():
        trainer.validate(module, datamodule=data, verbose=False)
        dev = trainer.callback_metrics["dev_perplexity"].item()
        trainer.test(module, datamodule=data, verbose=False)
    return {"dev_perplexity": dev, "test_perplexity": trainer.callback_metrics["test_perplexity"].item()}


def make_record(
    config: AnyRunConfig,
    row: str | None,
    module: SupervisedModule,
    meter: Meter,
    costs: Cost,
    data_fingerprint: str,
    metrics: dict[str, float],
) -> Record:
    """Everything that is to be known of a finished run. metrics: its perplexities; the meter's figures join them."""
    accelerator = torch.cuda.get_device_name() if module.device.type == "cuda" else None
    return Record(
        experiment=config.name,
        row=row,
        scale=config.scale.name,
        seed=config.seed,
        metrics=metrics | meter.utilisation() | meter.test_utilisation(),
        curve=meter.curve,
        parameters=costs.params,
        total_parameters=costs.total_params,
        ops_per_timestep=costs.ops_per_timestep,
        words_trained=meter.words,
        words_per_second=round(meter.words_per_second, 1),
        wall_seconds=round(meter.wall_seconds, 1),
        config=plain_config(config),
        config_hash=module.origin["config_hash"],
        commit=module.origin["commit"],
        dirty=module.origin["dirty"],
        versions=software_versions(),
        hardware=hardware(torch.get_num_threads(), accelerator),
        data_fingerprint=data_fingerprint,
        started_at=module.origin["started_at"],
    )


def warn_of_another_cost(config: AnyRunConfig, metrics: dict[str, float]) -> None:
    """Says on stderr if the words of the test had far more or fewer experts than the settings, and ops/timestep, have:
    in evaluation, the thresholds of strictly balanced gates decide."""
    moe = config.model.moe
    if moe is None or moe.gate.k is None:
        return
    expected = moe.gate.k if moe.num_groups is None else moe.gate.k**2
    measured = metrics["test_experts_per_token"]
    if abs(measured - expected) > 0.1 * expected:
        print(
            f"warning: in the test a word had {measured:.2f} experts on average, not {expected} as in training: the "
            "gate's thresholds are not trained well enough; ops_per_timestep of the record counts the latter",
            file=sys.stderr,
        )


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """Raises UserError if another process works in the folder, or if it cannot be made."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.path / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another process is training this run in {folder.path}; wait for it or stop it") from error
    except OSError as error:
        raise UserError(
            f"cannot write to {folder.path}: {error.strerror}; name another folder, paths.runs=…"
        ) from error
    with lock:
        yield
