"""How Lightning runs several processes as one: parts of batches, sums of gradients, whole checkpoints."""

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import nn
from torch.optim import Optimizer

from outrageous.parallel.checkpoint_folders import KEY, put_back, take_out, write_folder
from outrageous.parallel.processes import Processes
from outrageous.parallel.spread import shards_of
from outrageous.parallel.state import cut_optimizer_state, whole_optimizer_state, whole_state


class OneBatchStrategy(DDPStrategy):
    """Every process has a part of each batch, and all of the model or, of the experts, its own alone.

    Lightning's handling of processes, without DistributedDataParallel: the module sums gradients (`sum_gradients`), and
    does not average them, since each process's loss is its share of the batch's.

    A checkpoint is that of one process with the whole model, or has its experts in a folder beside it, written by all
    processes. Either goes on with any number of processes.
    """

    def __init__(self, shard_experts: bool, sharded_checkpoints: bool, timeout: timedelta, **kwargs: Any) -> None:
        """timeout: how long one process waits for the others before it gives up."""
        super().__init__(timeout=timeout, **kwargs)
        self.shard_experts, self.sharded_checkpoints = shard_experts, sharded_checkpoints

    @property
    def processes(self) -> Processes:
        return Processes(self.global_rank, self.world_size)

    def setup(self, trainer: pl.Trainer) -> None:
        Strategy.setup(self, trainer)  # DDP's own would give every process the weights of the first

    def _setup_model(self, model: nn.Module) -> nn.Module:  # type: ignore[override] # no DDP around it
        return model

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole on the first process, unless checkpoints are sharded; to be called by all."""
        assert self.lightning_module is not None
        if self.sharded_checkpoints:
            return super().lightning_module_state_dict()
        return whole_state(super().lightning_module_state_dict(), shards_of(self.lightning_module), self.processes)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As `lightning_module_state_dict`."""
        state = super().optimizer_state(optimizer)
        if self.sharded_checkpoints:
            return state
        return whole_optimizer_state(state, self._shards_in(optimizer), self.processes)

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            to_be_cut = {} if KEY in checkpoint else self._shards_in(optimizer)
            optimizer.load_state_dict(cut_optimizer_state(state, to_be_cut))

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        if not self.sharded_checkpoints:
            return super().save_checkpoint(checkpoint, filepath, storage_options)
        assert self.lightning_module is not None
        path = Path(filepath)
        of_optimizers = [self._shards_in(optimizer) for optimizer in self.optimizers]
        checkpoint, state, shards = take_out(checkpoint, shards_of(self.lightning_module), of_optimizers)
        tag = self.broadcast(f"{checkpoint['global_step']}.{uuid.uuid4().hex[:8]}")
        checkpoint[KEY] = write_folder(path, tag, state, shards, self.processes)
        super().save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        # Every process of a machine reads the same memory, the file's, and copies what it keeps.
        checkpoint = torch.load(checkpoint_path, map_location="cpu", weights_only=weights_only, mmap=True)
        return put_back(checkpoint, Path(checkpoint_path), self.processes)

    def _shards_in(self, optimizer: Optimizer) -> dict[int, Any]:
        """Of each parameter that is here in part, by its number in the optimizer's state."""
        assert self.lightning_module is not None
        shards = shards_of(self.lightning_module)
        names = {weight: name for name, weight in self.lightning_module.named_parameters()}
        numbered = enumerate(weight for group in optimizer.param_groups for weight in group["params"])
        return {number: shards[names[weight]] for number, weight in numbered if names[weight] in shards}
