"""The training loop: epochs of updates, what is recorded of them, and a run that survives."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fusedrnn.train import distributed
from fusedrnn.train.checkpoint import CheckpointError, Training
from fusedrnn.train.folder import RunFolder
from fusedrnn.train.interrupts import Interrupts
from fusedrnn.train.metrics import perplexity
from fusedrnn.train.optim import make_optimizer
from fusedrnn.train.records import Records, epoch_record
from fusedrnn.train.saver import Saver, load, training_state
from fusedrnn.train.schedule import Schedule
from fusedrnn.train.settings import Settings
from fusedrnn.train.state import (
    Position,
    pack_carried,
    pack_optimizer,
    pack_random,
    under_prefix,
    unpack_carried,
    unpack_optimizer,
    unpack_random,
    with_prefix,
)
from fusedrnn.train.task import Task
from fusedrnn.train.update import Updater, trained_parameters
from fusedrnn.train.watch import DivergedError, Sums, Update, check_record

OnStep = Callable[[Update], None]

# Processes agree on the end and on saving this many updates apart: asking costs a round trip.
_AGREE_EVERY = 16


@dataclass
class Result:
    """What a run gave.

    Attributes:
        history: an object per epoch: ``epoch`` (from 1), ``loss`` (mean per unit, measured as it was
            trained on) and its ``perplexity`` where the task has one, the task's unit (how many),
            ``seconds`` (of training alone), ``<unit>_per_s``, ``grad_norm`` and
            ``largest_grad_norm`` (mean and largest, before clipping), ``lr`` (of the last update),
            and what `Task.evaluate` gave.
        interrupted: whether Ctrl-C or SIGTERM ended it.
        stopped: why it ended before its last epoch, or "".
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    stopped: str = ""


class Trainer:
    """A run, epoch by epoch; `train` for callers who do something of their own in between, within
    `RunFolder.claimed` where there is a folder.

    Args:
        optimizer: one over the parameters of the task's model; None makes that of the settings.
    """

    def __init__(
        self,
        task: Task,
        settings: Settings,
        folder: RunFolder | None = None,
        *,
        resume: bool = False,
        on_step: OnStep | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self._task, self._settings, self._on_step = task, settings, on_step
        parameters = trained_parameters(task.model)
        self._device = parameters[0].device
        if distributed.world() > 1:
            task.share(distributed.rank(), distributed.world())
        self._optimizer = optimizer or make_optimizer(
            settings.optimizer, parameters, settings.lr, settings.weight_decay
        )
        self._schedule = Schedule(settings, self._optimizer.param_groups[0]["lr"], task)
        self._updater = Updater(task, settings, self._optimizer)
        self._position = Position()
        self._clock = time.perf_counter()
        self._fingerprint = task.fingerprint() if folder is not None else {}
        self._saver = Saver(task, settings, folder, self._pack)
        found = load(task, settings, folder) if resume and folder is not None else None
        if found is not None and found.training is not None:
            try:
                self._unpack(found.model, found.training)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise CheckpointError(
                    f"{folder.path if folder else ''}: expected a whole checkpoint, got: {error!r}"
                ) from error
        elif distributed.rank():
            torch.manual_seed(settings.seed + distributed.rank())
        with self._saver.writing():
            self._records = Records(folder, settings, self._position)
        self.interrupts = Interrupts()
        self.result = Result(list(distributed.from_first(self._records.history)))

    def epochs(self) -> Iterator[dict[str, Any]]:
        """Trains; yields the entry of each epoch in `Result.history` when it is over."""
        try:
            while self._goes_on():
                record = self._next_epoch()
                if record is None:
                    self.result.interrupted = True
                    break
                yield record
                if any(distributed.any_of(self._saver.due())):
                    self._save(self._saver.try_to_save)
            if self._saver.saved != asdict(self._position):
                self._save(self._saver.save)
        except DivergedError as error:
            raise DivergedError(f"{error}; {self._saver.kept()}") from error
        finally:
            self._records.close()

    def _next_epoch(self) -> dict[str, Any] | None:
        """The entry of what is left of an epoch; None where the run is to end within it."""
        with distributed.clear_errors(self._saver.kept):
            return self._end_epoch() if self._train_epoch() else None

    def _goes_on(self) -> bool:
        position, patience = self._position, self._settings.patience
        if patience is not None and position.waited >= patience:
            self.result.stopped = f"no improvement in {position.waited} epochs"
            return False
        return position.epoch < self._settings.epochs

    def _train_epoch(self) -> bool:
        """Goes through what is left of an epoch; False where the run is to end within it."""
        task, position, size = self._task, self._position, self._settings.accumulate
        in_all = task.updates(position.epoch)
        batches = task.batches(position.epoch, position.batch)
        apart = _AGREE_EVERY if distributed.world() > 1 else 1
        task.model.train()
        self._clock = time.perf_counter()
        while group := list(itertools.islice(batches, size)):
            rate = self._schedule.rate(position.update, position.epoch, position.batch / in_all)
            update = self._updater.make(group, position.epoch + 1, position.update + 1, rate)
            position.update += 1
            position.batch += len(group)
            self._tell(update)
            if position.update % apart == 0:
                stop, save = distributed.any_of(self.interrupts.requested, self._saver.due())
                if stop:
                    break
                if save:
                    self._save(self._saver.try_to_save)
        self._stop_clock()
        return not any(distributed.any_of(self.interrupts.requested))

    def _tell(self, update: Update) -> None:
        self._position.rate = update.rate
        with self._saver.writing():
            self._records.update(update)
        if self._on_step is not None:
            self._on_step(update)

    def _stop_clock(self) -> None:
        self._updater.watch.flush()  # which waits for the device
        now = time.perf_counter()
        self._updater.watch.sums.seconds += now - self._clock
        self._clock = now

    def _end_epoch(self) -> dict[str, Any]:
        """Evaluates, and makes the entry of the epoch that is over."""
        position, task = self._position, self._task
        record = epoch_record(task, position, self._updater.watch.sums)
        with torch.no_grad():
            record |= distributed.from_first(task.evaluate())
        if task.perplexity and "valid_loss" in record:
            record["valid_perplexity"] = perplexity(record["valid_loss"])
        check_record(record)
        position.epoch, position.batch = position.epoch + 1, 0
        self._updater.watch.sums, self._updater.carried = Sums(), None
        loss = record.get("valid_loss", record["loss"])
        self._schedule.epoch_ended(loss)
        position.waited += 1
        if position.best is None or loss < position.best:
            position.best, position.waited = loss, 0
            if "valid_loss" in record:
                self._saver.keep_best(self._info() | {"valid_loss": loss})
        self.result.history.append(record)
        with self._saver.writing():
            self._records.epoch(record, task)
        return record

    # --- saving ----------------------------------------------------------------------------------

    def _save(self, how: Callable[[], None]) -> None:
        """Saves by one of the saver's two ways; the clock of the epoch stands still meanwhile."""
        self._stop_clock()
        with self._saver.writing():
            self._records.sync()
        how()
        self._clock = time.perf_counter()

    def _info(self) -> dict[str, Any]:
        settings = asdict(self._settings) | {"lr": self._optimizer.defaults["lr"]}
        return {"settings": settings, "epochs": self._position.epoch}

    def _pack(self) -> tuple[Training, dict[str, Any]]:
        optimizer, values = pack_optimizer(self._optimizer)
        carried, shape = pack_carried(self._updater.carried, self._task.batch_dim)
        sums = self._updater.watch.sums
        total, count = distributed.summed([sums.total, float(sums.count)])
        tensors = {
            **with_prefix("optimizer", optimizer),
            **with_prefix("random", pack_random(self._device)),
            **with_prefix("carried", carried),
            **with_prefix("task", self._task.state()),
        }
        state = training_state(
            self._settings,
            self._fingerprint,
            optimizer=values,
            carried=shape,
            schedule=self._schedule.state(),
            position=asdict(self._position),
            sums=asdict(sums) | {"total": total, "count": int(count)},
        )
        return Training(tensors, state), self._info()

    def _unpack(self, model: dict[str, Tensor], training: Training) -> None:
        state, tensors = training.state, training.tensors
        self._task.model.load_state_dict(model)
        unpack_optimizer(self._optimizer, under_prefix("optimizer", tensors), state["optimizer"])
        self._updater.carried = unpack_carried(
            under_prefix("carried", tensors), state["carried"], self._task.batch_dim, self._device
        )
        self._task.load_state(under_prefix("task", tensors))
        unpack_random(
            self._device,
            under_prefix("random", tensors),
            self._settings.seed + state["position"]["update"],
        )
        self._schedule.load(state["schedule"])
        self._position = Position(**state["position"])
        sums = Sums(**state["sums"])
        if distributed.rank():  # the sums of all are in process 0
            sums.total, sums.count = 0.0, 0
        self._updater.watch.sums = sums
        self._saver.saved = dict(state["position"])
