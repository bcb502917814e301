"""Colours that people with any colour vision can tell apart, a perceptually ordered map, and lettering."""

from __future__ import annotations

import unicodedata
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Okabe and Ito, "Color Universal Design" (2008), without black and yellow, which vanish on photos and paper.
PALETTE = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (0, 114, 178),
    (213, 94, 0),
)
ANSWER_COLOUR = PALETTE[0]
SAMPLE_COLOUR = PALETTE[1]
BACKGROUND = 245
_INK = (30, 30, 30)


def person_colour(index: int) -> Tensor:
    """RGB ``[3]`` in [0, 1]; the colours repeat after six people."""
    return torch.tensor(PALETTE[index % len(PALETTE)]) / 255


def viridis(values: Tensor) -> Tensor:
    """Values in [0, 1] (clipped) to RGB ``[..., 3]`` in [0, 1]: dark blue is low, yellow is high."""
    steps = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    table = torch.from_numpy(cv2.applyColorMap(steps, cv2.COLORMAP_VIRIDIS)[:, 0, ::-1].copy()).to(values.device)
    position = values.clamp(0, 1) * 255
    low = position.floor().long()
    share = (position - low).unsqueeze(-1)
    return (table[low] * (1 - share) + table[(low + 1).clamp_max(255)] * share) / 255


def write_text(
    image: NDArray[np.uint8],
    text: str,
    place: tuple[int, int],
    scale: float = 0.5,
    ink: tuple[int, int, int] = _INK,
    outlined: bool = False,
) -> None:
    """Write one line on ``image [H, W, 3]`` in place.

    Args:
        image: to write on.
        text: the font has ASCII only: accents are dropped, other letters become question marks.
        place: x and y of the left end of the base line.
        scale: capitals are about 22 times as many pixels high.
        ink: RGB of the letters.
        outlined: with a light seam, for photos.
    """
    plain = _ascii(text)
    if outlined:
        seam = max(3, round(5 * scale))
        cv2.putText(image, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), seam, cv2.LINE_AA)
    cv2.putText(image, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, max(1, round(1.5 * scale)), cv2.LINE_AA)


def text_width(text: str, scale: float = 0.5) -> int:
    """Pixels that :func:`write_text` needs from left to right."""
    return int(cv2.getTextSize(_ascii(text), cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, round(1.5 * scale)))[0][0])


def shortened(text: str, width: int, scale: float = 0.5) -> str:
    """``text`` with as much of its middle left out as makes it ``width`` pixels wide at most."""
    result, left_out = text, 0
    while text_width(result, scale) > width and left_out < len(text):
        left_out += 1
        start = (len(text) - left_out) // 2
        result = f"{text[:start]}...{text[start + left_out :]}"
    return result


def round_up(value: float) -> float:
    """The next of 1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8 times a power of ten: a quarter of it is a readable mark."""
    if not value > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(
        next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= value * (1 - 1e-9))
    )


def color_bar(height: int, top: float, heading: str, clipped: bool) -> NDArray[np.uint8]:
    """A vertical :func:`viridis` scale from 0 to ``top`` with five marks; ``clipped`` marks the top as "or more"."""
    margin, bar, left = 40, 24, 14
    labels = [f"{round(top * step / 4, 6):g}" for step in range(5)]
    if clipped:
        labels[4] = f">= {labels[4]}"
    beside = left + bar + 10
    width = max(beside + max(text_width(label) for label in labels), left + text_width(heading)) + 10
    image = blank(height, width)
    length = height - 2 * margin
    ramp = viridis(torch.linspace(1, 0, length)).mul(255).round().byte().numpy()
    image[margin : margin + length, left : left + bar] = ramp[:, None]
    for step, label in enumerate(labels):
        row = margin + round((length - 1) * (1 - step / 4))
        image[row, left + bar : beside - 4] = _INK
        write_text(image, label, (beside, row + 5))
    write_text(image, heading, (left, margin - 16))
    return image


def blank(height: int, width: int) -> NDArray[np.uint8]:
    """An empty light picture."""
    return np.full((height, width, 3), BACKGROUND, dtype=np.uint8)


def as_rows(pictures: list[list[NDArray[Any]]], gap: int = 4) -> NDArray[np.uint8]:
    """Pictures as a table: equal heights within a row, rows are filled up on the right."""
    rows = []
    for row in pictures:
        spaced = [part for picture in row for part in (picture, blank(picture.shape[0], gap))]
        rows.append(np.concatenate(spaced[:-1], axis=1))
    width = max(row.shape[1] for row in rows)
    filled = [np.concatenate([row, blank(row.shape[0], width - row.shape[1])], axis=1) for row in rows]
    stacked = [part for row in filled for part in (row, blank(gap, width))]
    return np.concatenate(stacked[:-1], axis=0)


def _ascii(text: str) -> str:
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return "".join(letters).encode("ascii", "replace").decode()
