"""A miniature high-resolution LSP Extended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from diffhmr.body.model import BodyModel
from tests.releases.drawn_people import DrawnPerson, draw_people, write_picture


@dataclass(frozen=True)
class HrLspetTruth:
    """What is in the release.

    Attributes:
        people: in the order of the pictures.
        names: of the pictures; their numbers have gaps.
        visible: ``[P, 14]`` bool.
        unlabelled: ``[P, 14]`` bool, written as 0 without being visible.
    """

    people: list[DrawnPerson]
    names: list[str]
    visible: np.ndarray
    unlabelled: np.ndarray


def write_hr_lspet(root: Path, body: BodyModel, people: int = 4, seed: int = 0) -> HrLspetTruth:
    """Write ``joints.mat`` and the pictures. ``joints`` is (14, 3, P), counts from 1, and 1 means visible."""
    drawn = draw_people(body, people, seed)
    names = [f"im{number:05d}.png" for number in 1 + 3 * np.arange(people) ** 2]
    visible = np.arange(14 * people).reshape(people, 14) % 4 != 1
    unlabelled = np.zeros_like(visible)
    unlabelled[0, 13] = True
    visible &= ~unlabelled
    joints = np.zeros((14, 3, people))
    for index, person in enumerate(drawn):
        joints[:, :2, index] = np.where(unlabelled[index][:, None], 0.0, person.gt24()[:14] + 1)
        joints[:, 2, index] = visible[index]
        write_picture(root / names[index], person.image)
    scipy.io.savemat(root / "joints.mat", {"joints": joints}, do_compression=True)
    return HrLspetTruth(drawn, names, visible, unlabelled)
