"""Motions filtered over time, and the filters by their names on the command line.

For models that answer frame by frame: their motions tremble.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.one_euro import OneEuro

ONE_EURO = "one-euro"


@dataclass(frozen=True)
class FilterOptions:
    """The 1 Euro filter on every rotation; see :class:`OneEuro`.

    The values were chosen for the shipped keypoint model on 20 validation clips of synthetic motion: least error of
    place at little acceleration (81.2 mm MPJPE and 11.1 mm/frame^2, unfiltered 84.0 and 58.8).
    """

    min_cutoff: float = 0.7
    beta: float = 0.3

    def about(self) -> dict[str, dict[str, float]]:
        """For the record."""
        return {ONE_EURO: asdict(self)}


def parse_filter(text: str) -> FilterOptions:
    """``one-euro`` or ``one-euro:MIN_CUTOFF,BETA``.

    Raises:
        UserError: it is neither.
    """
    name, _, values = text.partition(":")
    try:
        numbers = [float(value) for value in values.split(",")] if values else []
        if name != ONE_EURO or len(numbers) not in (0, 2):
            raise ValueError(text)
        options = FilterOptions(*numbers)
        OneEuro(1.0, options.min_cutoff, options.beta)
    except ValueError as error:
        raise UserError(
            f"--filter {text!r} is no filter; give {ONE_EURO}, or {ONE_EURO}:MIN_CUTOFF,BETA with a cutoff above 0 Hz "
            "and a beta of at least 0"
        ) from error
    return options


def filtered(params: SmplParams, fps: float, options: FilterOptions) -> SmplParams:
    """Smoother motions of one shape each: filtered rotations, and the mean of the betas.

    Args:
        params: ``[..., T]``.
        fps: frames per second.
        options: of the filter.
    """
    rotations = params.rotations.transpose(-4, -3)  # time next to the matrices
    smooth = OneEuro(fps, options.min_cutoff, options.beta).rotations(rotations).transpose(-4, -3)
    betas = params.betas.mean(-2, keepdim=True).expand_as(params.betas)
    return SmplParams.from_rotations(smooth, betas)
