"""A miniature Leeds Sports Pose: both versions, with labels for a few of the 2000 people and pictures of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from diffhmr.body.model import BodyModel
from tests.releases.drawn_people import DrawnPerson, draw_people, write_picture

NUM_PEOPLE = 2000


@dataclass(frozen=True)
class LspTruth:
    """What is in the release.

    Attributes:
        people: of the training part, in full size, and of the test part.
        numbers: of their pictures, from 1.
        hidden: ``[P, 14]`` bool per part.
    """

    people: dict[str, list[DrawnPerson]]
    numbers: dict[str, list[int]]
    hidden: dict[str, np.ndarray]


def write_lsp(root: Path, body: BodyModel, people: int = 3, seed: int = 0) -> LspTruth:
    """Write ``lsp_dataset_original`` and ``lsp_dataset``; people without picture have no labels either.

    As in the release, ``joints`` is (3, 14, 2000), x and y count from 1, and the flag is 1 for hidden joints.
    """
    drawn = draw_people(body, 2 * people, seed)
    truth = LspTruth({"train": drawn[:people], "test": drawn[people:]}, {}, {})
    for split, folder, first in (("train", "lsp_dataset_original", 1), ("test", "lsp_dataset", 1001)):
        joints = np.zeros((3, 14, NUM_PEOPLE))
        hidden = np.arange(14 * people).reshape(people, 14) % 5 == 3
        truth.numbers[split] = [first + 7 * index for index in range(people)]
        truth.hidden[split] = hidden
        for person, number, flags in zip(truth.people[split], truth.numbers[split], hidden, strict=True):
            joints[:2, :, number - 1] = person.gt24()[:14].T + 1
            joints[2, :, number - 1] = flags
            write_picture(root / folder / "images" / f"im{number:04d}.jpg", person.image)
        # The other part of the people is in the file too; each version is used for one part.
        joints[:2, :, 1500 if split == "train" else 500] = 77.0
        scipy.io.savemat(root / folder / "joints.mat", {"joints": joints}, do_compression=True)
    return truth
