"""The one training loop, for every task.

Steps, not epochs. Everything random in step n follows from (seed, n) and the items of the step from n alone, so that a
run that was killed and resumed ends with the weights of one that was not, bit for bit on the CPU, and several
processes see the batches of one. The state is small; a run can be killed at any time.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Generic, NoReturn, cast

import torch
from torch import Tensor, nn

from diffhmr.checkpoint import TrainingState, load_state, save_state
from diffhmr.config_file import AnyExperiment, describe_kind, differing_keys, dump_config, load_config
from diffhmr.diffusion.ema import Ema
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, ensure_folder, remove_leftovers, write_json
from diffhmr.training.build import build_task
from diffhmr.training.data import Batch, StepSlice, step_batches
from diffhmr.training.log import MeanOfTerms, RunLog
from diffhmr.training.processes import Processes, join_processes
from diffhmr.training.selection import BEST_FILE, BestSoFar
from diffhmr.training.steps import (
    Gradients,
    LossTerms,
    build_optimizer,
    compute_gradients,
    learning_rate,
    set_learning_rate,
    step_seed,
)
from diffhmr.training.task import Learner, Model, Task

STATE_FILE = "state.pt"
MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
MAY_DIFFER = ("output", "train.steps", "train.workers", "train.log_every", "train.picture_every",
              "train.checkpoint_every", "train.validate_every")  # fmt: skip
"""Settings that a resumed run may change."""

_log = logging.getLogger(__name__)


def run(config: AnyExperiment, *, resume: bool = False) -> Path:
    """Train as ``config`` says and return the path of the final model file, ``output/name/model.safetensors``.

    The file holds the moving average of the weights. The same folder gets ``config.yaml``, TensorBoard's events and,
    every ``train.checkpoint_every`` steps, the model so far and the state from which ``resume`` goes on. The model with
    the best validation score so far is ``best.safetensors``; there is none if the validation data are a test set.

    Raises:
        UserError: the folder is in use and ``resume`` is off; the run to be resumed had other settings; a file that the
            settings name is missing; a loss or gradient is not finite.
    """
    folder = config.output / config.name
    with join_processes() as processes:
        state = _find_start(folder, config, resume)
        # Every process has to have looked at the folder before the main one writes to it.
        processes.wait()
        ensure_folder(folder)
        trainer = Trainer(build_task(config, processes, resumed=state is not None), processes)
        if state is None:
            trainer.start()
        else:
            trainer.restore(state, folder)
        if processes.is_main:
            for name in (STATE_FILE, MODEL_FILE, BEST_FILE, CONFIG_FILE):
                remove_leftovers(folder / name)
            with atomic_path(folder / CONFIG_FILE) as temporary:
                temporary.write_text(dump_config(config), encoding="utf-8")
        try:
            trainer.train(folder)
        except KeyboardInterrupt:
            if processes.is_main:
                _log.info("stopped after step %d; --resume goes on at the last checkpoint in %s", trainer.step, folder)
            raise
        processes.wait()
    return folder / MODEL_FILE


def _find_start(folder: Path, config: AnyExperiment, resume: bool) -> TrainingState | None:
    """The newest state of the run in ``folder``, or None for a run that starts at step 0."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder; choose another name or output")
    used = folder.exists() and any(folder.iterdir())
    if not resume:
        if used:
            raise UserError(
                f"{folder} is not empty; continue that run with --resume or choose another name"
                f"{_delete_hint(folder)}"
            )
        return None
    state = load_state(folder / STATE_FILE) if (folder / STATE_FILE).exists() else None
    if state is not None:
        _require_same(state.config, config, folder)
        if state.step > config.train.steps:
            raise UserError(f"the run in {folder} is at step {state.step} already: set train.steps to more than that")
    elif (folder / CONFIG_FILE).exists():
        _require_same(load_config(folder / CONFIG_FILE), config, folder)
    elif used:
        raise UserError(f"{folder} holds no run that could be resumed; choose another name or output")
    if state is None:
        _log.info("no checkpoint in %s yet: starting at step 0", folder)
    return state


def _delete_hint(folder: Path) -> str:
    """What else can be done about a run that stopped before it had anything to lose."""
    lost = any((folder / name).exists() for name in (STATE_FILE, MODEL_FILE, BEST_FILE))
    started = (folder / CONFIG_FILE).exists()
    return ", or delete the folder, whose run reached no checkpoint" if started and not lost else ""


def _require_same(old: AnyExperiment, new: AnyExperiment, folder: Path) -> None:
    if type(old) is not type(new):
        raise UserError(
            f"the run in {folder} is {describe_kind(old)}, this is {describe_kind(new)}: choose another name"
        )
    # Scores on other validation data cannot be compared, so they change only while there is no best model.
    free = () if (folder / BEST_FILE).exists() else ("data.validation.",)
    changed = [
        name for name in differing_keys(old, new) if name not in MAY_DIFFER and not f"{name}.".startswith(free)
    ]
    if changed:
        raise UserError(
            f"the run in {folder} has other settings: {', '.join(changed)}; resume it with {folder / CONFIG_FILE}, or "
            f"choose another name{_delete_hint(folder)}"
        )
    if new.train.decay == "cosine" and new.train.steps != old.train.steps:
        _log.warning(
            "train.steps was %d and is %d: the learning rate follows the new number from here on, so that the weights "
            "will not be those of a run that had it from the start",
            old.train.steps,
            new.train.steps,
        )


class Trainer(Generic[Model, Batch]):
    """The parts of a run in one process: a task, its moving average, the optimiser and what is done with them.

    Args:
        task: what learns, and from what.
        processes: this process among those of the run.
    """

    def __init__(self, task: Task[Model, Batch], processes: Processes) -> None:
        self.task = task
        self.config = task.config
        self.processes = processes
        self.step = 0
        share = processes.share(self.config.train.batch_size)
        self._slice = (processes.rank * share, share)
        self.model = task.model
        self._average: Ema | None = None
        self._best: BestSoFar | None = None
        self._copy = copy.deepcopy(self.model).eval()
        if self.config.train.amp == "bf16":
            task.use_bfloat16()
        self._network = processes.parallel(LossTerms(self.model))
        self.optimizer = build_optimizer(self.model, self.config.train)

    @property
    def average(self) -> Ema:
        """The moving average of the weights; there is none before :meth:`start` or :meth:`restore`."""
        assert self._average is not None
        return self._average

    def start(self) -> None:
        """Give the model its start and begin the average there.

        Raises:
            UserError: as :meth:`diffhmr.training.task.Task.start`.
        """
        self.task.start()
        self._average = Ema(self.model, self.config.train.ema_decay)

    def restore(self, state: TrainingState, folder: Path) -> None:
        """Go on from ``state``, which is that of the run in ``folder``.

        Raises:
            UserError: it belongs to another body file, or to a model with other layers; something is missing beside it.
        """
        body = self.task.body
        if state.body_sha256 != body.sha256:
            raise UserError(f"{body.path} is not the body that this run began with; put the old file back")
        self._average = Ema(self.model, self.config.train.ema_decay)
        try:
            self.model.load_state_dict(state.model)
            self._average.load_state_dict(state.ema)
            self.optimizer.load_state_dict(state.optimizer)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{STATE_FILE} does not fit this model: it is damaged or of another version of the program ({reason}); "
                "start anew under another name"
            ) from error
        self.step = state.step
        _log.info("going on at step %d", self.step)
        self.task.restore(folder, self.step)

    def gradients(self, batch: Batch) -> Gradients:
        """Forward and backward pass of the present step on this process's share of it; changes no weight."""
        self.model.train()
        seed = step_seed(self.config.seed, self.step)
        return compute_gradients(self._network, batch, seed, self.config.loss, self.config.train.grad_clip)

    def update(self) -> None:
        """Change the weights by the gradients and count the step."""
        set_learning_rate(self.optimizer, learning_rate(self.step, self.config.train))
        self.optimizer.step()
        self.average.update(self.model)
        self.step += 1

    def batches(self) -> Iterator[Batch]:
        """This process's share of the remaining steps, each with the targets that the model of that step has."""
        train = self.config.train
        steps = StepSlice(self.step, train.steps, train.batch_size, *self._slice)
        for batch in step_batches(self.task.dataset, steps, train.workers):
            yield self.task.supervise(batch)

    def train(self, folder: Path) -> None:
        """Run the remaining steps; reports, pictures and checkpoints go to ``folder``."""
        train, means = self.config.train, MeanOfTerms()
        criterion = self.task.criterion
        if self.processes.is_main and criterion is not None:
            self._best = BestSoFar(folder / BEST_FILE, criterion)
        elif self.processes.is_main:
            _log.info("the validation data are a test set, which chooses nothing: %s is not written", BEST_FILE)
        log_folder = folder if self.processes.is_main and self.step < train.steps else None
        with RunLog(log_folder, self.step, train.steps, train.batch_size) as log:
            if self.step == 0:
                log.text(0, "config", dump_config(self.config))
            for batch in self.batches():
                gradients = self.gradients(batch)
                if not gradients.finite():
                    self._stop(gradients, batch, folder)
                terms = {f"loss/{name}": value for name, value in gradients.terms.items()}
                terms |= self.task.shares()
                means.add({"loss/total": gradients.total, **terms, "optimiser/gradient_norm": gradients.norm})
                rate = learning_rate(self.step, train)
                self.update()
                log.advance()
                if self._due(train.log_every):
                    values = {name: float(self.processes.mean(value)) for name, value in means.take().items()}
                    log.losses(self.step, {**values, "optimiser/lr": rate})
                if self.processes.is_main:
                    self._report(log, folder)
        if self._best is not None and self._best.score is not None:
            _log.info("best on the validation data: %s, in %s", self._best.score, self._best.path)

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.train.steps

    def _report(self, log: RunLog, folder: Path) -> None:
        """Validate, draw and save when it is time to.

        The state comes last: a run that goes on from it has everything that belongs to its step.
        """
        train = self.config.train
        save, check, draw = map(self._due, (train.checkpoint_every, train.validate_every, train.picture_every))
        if check:
            self._copy.load_state_dict(self.model.state_dict())
            raw = self.task.validate(self._copy)
            log.scalars(self.step, {f"val_raw/{k}": v for k, v in raw.items()})
            scores = self.task.validate(self.averaged())
            log.scalars(self.step, {f"val/{k}": v for k, v in scores.items()})
            # A tenth of a millimetre is enough; shares and what counts per frame need more.
            shown = [f"{name} {value:.{1 if name.endswith('_mm') else 3}f}" for name, value in scores.items()]
            log.message("  ".join([f"step {self.step}", *shown]))
            self._keep_best(scores)
        picture = self.task.picture(self.averaged()) if draw else None
        if picture is not None:
            log.picture(self.step, "hypotheses", picture)
        if save:
            log.flush()
            self.save(folder)
        if save or check or draw:
            log.pause()

    def _keep_best(self, scores: Mapping[str, float]) -> None:
        """Write the model that was just validated if none before it was as good."""
        if self._best is not None and self._best.improved_by(scores):
            finished = self.step >= self.config.train.steps
            self.task.save(self._best.path, self.averaged(), self.step, finished=finished, extra=self._best.header())

    def averaged(self) -> Model:
        """A model in evaluation mode with the averaged weights; valid until the next call."""
        self.average.copy_to(self._copy)
        return self._copy

    def save(self, folder: Path) -> None:
        """Write the averaged model and the state of the run; either replaces the previous one at once."""
        finished = self.step >= self.config.train.steps
        self.task.save_beside(folder, self.step)
        self.task.save(folder / MODEL_FILE, self.averaged(), self.step, finished=finished, extra={})
        state = TrainingState(
            step=self.step,
            config=self.config,
            body_sha256=self.task.body.sha256,
            model=self.model.state_dict(),
            ema=self.average.state_dict(),
            optimizer=self.optimizer.state_dict(),
        )
        save_state(folder / STATE_FILE, state)
        self.task.forget_others(folder, self.step)

    def _stop(self, gradients: Gradients, batch: Batch, folder: Path) -> NoReturn:
        """Save what led to numbers that are not finite, and end the run.

        The loss of each item is that of the averaged weights, which are finite: an item that is not is bad itself,
        while finite items mean that the weights went astray.
        """
        generator = torch.Generator().manual_seed(step_seed(self.config.seed, self.step))
        with torch.no_grad():
            losses = cast(Learner, self.averaged()).item_losses(batch, generator)
        per_item = {name: values.tolist() for name, values in losses.items()}
        suffix = "" if self.processes.is_main else f"_process_{self.processes.rank}"
        path = folder / f"nonfinite_step_{self.step}{suffix}.json"
        seeds = batch.item_seed.tolist()
        first = self.step * self.config.train.batch_size + self._slice[0]
        bad = {name: _finite_text(value) for name, value in gradients.terms.items() if not bool(value.isfinite())}
        write_json(
            path,
            {
                "step": self.step,
                "total": _finite_text(gradients.total),
                "gradient_norm": _finite_text(gradients.norm),
                "terms": {name: _finite_text(value) for name, value in gradients.terms.items()},
                "parameters_with_such_gradients": _without_finite_gradient(self.model),
                "items_with_averaged_weights": [
                    {"index": first + i, "item_seed": seeds[i], **{k: _finite_text(v[i]) for k, v in per_item.items()}}
                    for i in range(len(seeds))
                ],
            },
        )
        raise UserError(
            f"step {self.step}: {', '.join(bad) or 'the gradient'} is not finite; {path} holds the items; if one of "
            "them has no finite loss, mend its label, else lower train.lr"
        )


def _finite_text(value: Tensor | float) -> float | str:
    """A number as JSON can hold it."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _without_finite_gradient(model: nn.Module) -> list[str]:
    return [
        name
        for name, value in model.named_parameters()
        if value.grad is not None and not bool(value.grad.isfinite().all())
    ]
