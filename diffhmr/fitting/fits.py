"""The dictionary of fits: for every row of every label file the best body that was found so far.

Files are those of SPIN (``NAME_fits.npy``, N x 82: pose as axis-angle, then betas). Fits are kept in the frame of the
label's own box, before any augmentation, and so are their scores: a fit is only ever replaced by a better one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffhmr.body.params import NUM_BETAS, SmplParams
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, require_file
from diffhmr.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle

POSE_NUMBERS = 72
FIT_NUMBERS = POSE_NUMBERS + NUM_BETAS

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A label file: its name in the settings and its number of rows."""

    name: str
    rows: int


class FitDictionary:
    """Fits of all rows of several label files, numbered on from one file to the next; on the CPU.

    Attributes:
        values: ``[N, 82]`` float32, pose and betas.
        score: ``[N]`` float32, see :func:`diffhmr.fitting.smplify.reprojection_score`; infinite where there is no fit,
            NaN where a fit was read whose score is not known yet.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        total = sum(source.rows for source in sources)
        self.values = torch.zeros(total, FIT_NUMBERS)
        self.score = torch.full((total,), torch.inf)

    def load(self, folder: str | Path, *, complete: bool = False) -> None:
        """Take the fits in ``folder``, ``NAME_fits.npy`` each, and the scores in ``NAME_scores.npy`` if there are any.

        Args:
            folder: SPIN's static fits, or what :meth:`save` wrote.
            complete: every source has to be there, with scores; otherwise those without a file keep what they have.

        Raises:
            UserError: there is no file for any of the sources (``complete``: for one of them), or one is damaged, has
                another number of rows or holds numbers that are not finite.
        """
        folder = Path(folder)
        found = []
        for source, rows in self._slices():
            path, scores = (folder / f"{source.name}_{what}.npy" for what in ("fits", "scores"))
            if not complete and not path.exists():
                _log.info("%s: no fits in %s", source.name, folder)
                continue
            found.append(source.name)
            values = _read(path, (source.rows, FIT_NUMBERS))
            if not np.isfinite(values).all():
                raise UserError(f"{path} holds numbers that are not finite; get the file again")
            self.values[rows] = torch.from_numpy(values)
            scored = complete or scores.exists()
            known = _read(scores, (source.rows,)) if scored else np.full(source.rows, np.nan, np.float32)
            self.score[rows] = torch.from_numpy(known)
        if not found:
            names = ", ".join(f"{source.name}_fits.npy" for source in self.sources)
            raise UserError(
                f"no fits in {folder}: expected at least one of {names}; SPIN's are in its data release (static_fits), "
                "and the names of data.sources have to be those of the files"
            )

    def save(self, folder: str | Path) -> None:
        """Write ``NAME_fits.npy`` and ``NAME_scores.npy`` of every source into ``folder``, each atomically.

        Raises:
            UserError: the folder cannot be written.
        """
        for source, rows in self._slices():
            for what, tensor in (("fits", self.values), ("scores", self.score)):
                with atomic_path(Path(folder) / f"{source.name}_{what}.npy") as temporary:
                    np.save(temporary, tensor[rows].numpy(), allow_pickle=False)

    def params(self, items: Tensor) -> SmplParams:
        """The fits of the rows ``items [B]`` (int64), of which some may not exist: see :attr:`score`."""
        values = self.values[items]
        rotations = axis_angle_to_matrix(values[:, :POSE_NUMBERS].unflatten(1, (24, 3)))
        return SmplParams.from_rotations(rotations, values[:, POSE_NUMBERS:])

    def rate(self, items: Tensor, score: Tensor) -> None:
        """Note the scores ``[B]`` of fits that have none yet."""
        unknown = self.score[items].isnan()
        self.score[items[unknown]] = score[unknown].to(self.score)

    def improve(self, items: Tensor, values: Tensor, score: Tensor) -> Tensor:
        """Replace the fits of the rows ``items [B]`` where ``score [B]`` is lower than what is there.

        Of several fits for one row the best counts. A score that is not finite never wins; a fit without a known score
        always loses.

        Args:
            items: rows, int64.
            values: ``[B, 82]``, see :func:`fit_values`.
            score: of them.

        Returns:
            bool ``[B]``: those that were taken.
        """
        items, values, score = items.cpu(), values.to(self.values), score.to(self.score)
        current = self.score[items]
        better = score.isfinite() & values.isfinite().all(-1) & ((score < current) | current.isnan())
        # One row may come twice in a batch: among the candidates of a row only the best, the first of equals, is left.
        for index in better.nonzero().squeeze(1).tolist():
            rivals = better & (items == items[index])
            if int(rivals.sum()) > 1:
                best = int(torch.where(rivals, score, torch.inf).argmin())
                better[rivals] = False
                better[best] = True
        self.values[items[better]] = values[better]
        self.score[items[better]] = score[better]
        return better

    def _slices(self) -> list[tuple[Source, slice]]:
        result, first = [], 0
        for source in self.sources:
            result.append((source, slice(first, first + source.rows)))
            first += source.rows
        return result


def fit_values(params: SmplParams) -> Tensor:
    """``params [B]`` as rows of a file of fits, ``[B, 82]``."""
    return torch.cat([matrix_to_axis_angle(params.rotations.detach()).flatten(1), params.betas.detach()], dim=-1)


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 array of ``shape`` in ``path``."""
    require_file(path, "file of fits", "get it again or set fitting.fits to another folder")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged or no array of numbers ({error}); get the file again") from error
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype.kind != "f":
        found = f"shape {array.shape} and type {array.dtype}" if isinstance(array, np.ndarray) else "an archive"
        raise UserError(f"{path} has {found}, expected floating-point numbers of shape {shape}, one row per label")
    return np.asarray(array, dtype=np.float32)
