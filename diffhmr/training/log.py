"""What a run shows while it learns: a progress bar or log lines, and TensorBoard scalars and pictures."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

_log = logging.getLogger(__name__)


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


class MeanOfTerms:
    """Running means of named scalars, summed on their device so that no step waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Take in one value of each term; the names are the same in every call."""
        for name, value in terms.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.detach().clone()
        self._count += 1

    def take(self) -> dict[str, Tensor]:
        """The means since the last call, scalars on their device."""
        means = {name: value / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


class RunLog:
    """The reports of the main process of a run. Use as a context manager; ``folder`` None reports nothing.

    On a terminal there is a progress bar with throughput and remaining time; elsewhere the same goes to the log.

    Args:
        folder: TensorBoard's event files go to its ``tensorboard``; what earlier runs wrote for later steps is hidden.
        start: first step.
        stop: one after the last step.
        batch_size: items per step.
    """

    def __init__(self, folder: Path | None, start: int, stop: int, batch_size: int) -> None:
        self._stop = stop
        self._batch_size = batch_size
        # What was logged at the step of the state itself is not said again.
        first = start + 1 if start else 0
        self._writer = None if folder is None else SummaryWriter(str(folder / "tensorboard"), purge_step=first)
        self._terminal = folder is not None and sys.stderr.isatty()
        self._bar = tqdm(total=stop, initial=start, unit="step", disable=not self._terminal, dynamic_ncols=True)
        self._last_step, self._last_time = start, time.perf_counter()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def flush(self) -> None:
        """Write what has been reported to the file, so that a kill loses nothing of it."""
        if self._writer is not None:
            self._writer.flush()

    def advance(self) -> None:
        """One more step is done."""
        self._bar.update()

    def losses(self, step: int, values: Mapping[str, float]) -> None:
        """Report ``values`` and the throughput since the last report; ``step`` steps are done."""
        now = time.perf_counter()
        per_step = (now - self._last_time) / max(1, step - self._last_step)
        self._last_step, self._last_time = step, now
        rate = self._batch_size / per_step
        self.scalars(step, {**values, "speed/items_per_second": rate})
        if self._writer is None:
            return
        loss = values["loss/total"]
        if self._terminal:
            self._bar.set_postfix_str(f"loss {loss:.4f}, {rate:.0f} items/s")
        else:
            left = format_duration(per_step * (self._stop - step))
            self.message(f"step {step}/{self._stop}  loss {loss:.4f}  {rate:.0f} items/s  {left} left")

    def message(self, text: str) -> None:
        """Show one line, above the progress bar if there is one."""
        if self._terminal:
            self._bar.write(text, file=sys.stderr)
        elif self._writer is not None:
            _log.info("%s", text)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers to TensorBoard."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """Write an image ``[3, H, W]`` in [0, 1] to TensorBoard."""
        if self._writer is not None:
            self._writer.add_image(name, (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu(), step)

    def text(self, step: int, name: str, content: str) -> None:
        """Write text to TensorBoard as it stands."""
        if self._writer is not None:
            self._writer.add_text(name, "    " + content.replace("\n", "\n    "), step)

    def pause(self) -> None:
        """Leave the time since the last step out of the throughput, after validation or saving."""
        self._last_time = time.perf_counter()
