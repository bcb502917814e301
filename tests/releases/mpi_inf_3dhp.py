"""A miniature MPI-INF-3DHP: annotations, videos and test pictures of a few frames of synthetic people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
import scipy.io

from diffhmr.body.model import BodyModel
from tests.releases.captured_people import CapturedPeople, capture_people, write_video
from tests.releases.h36m import stamp_matlab

SIZE = (2048, 2048)
RATE = 25
FOCAL = 1500.0
NUM_CAMERAS = 14
NUM_FRAMES = 23
OUTSIDE = 3
"""Frame of each training video in which a joint lies outside the picture."""

TEST_SIZES = {"TS1": (2048, 2048), "TS5": (1920, 1080)}
TEST_FRAMES, INVALID, CUT = 5, 1, 4
"""Frames of each test sequence; one that does not count; one with a joint outside the picture."""

# Slot of label files that each joint is: of the 28 of the training set (-1: nobody reads it), and of the 17 for tests.
_TRAIN_SLOTS = (-1, -1, -1, 16, 14, 12, 17, 18, -1, 9, 10, 11, -1, -1, 8, 7, 6, -1, 3, 4, 5, -1, -1, 2, 1, 0, -1, -1)
_TEST_SLOTS = (18, 12, 8, 7, 6, 9, 10, 11, 2, 1, 0, 3, 4, 5, 14, 16, 17)
SLOTS = _TEST_SLOTS
_UNIVERSAL = 0.92  # of the person's size is the skeleton of everybody's


@dataclass(frozen=True)
class MpiInfTruth:
    """What is in the release.

    Attributes:
        train: people per (subject, sequence, camera).
        test: people per test sequence.
        outside: ``[2]`` where the wrist (slot 6) of the frames ``OUTSIDE`` and ``CUT`` is instead.
    """

    train: Mapping[tuple[str, str, int], CapturedPeople]
    test: Mapping[str, CapturedPeople]
    outside: tuple[float, float]

    def universal(self, people: CapturedPeople) -> np.ndarray:
        """``[N, 24, 3]`` joints of the universal skeleton from the pelvis, metres."""
        return _UNIVERSAL * people.relative()


def write_mpi_inf_3dhp(
    root: Path,
    body: BodyModel,
    people: int = NUM_FRAMES,
    seed: int = 0,
    sequences: Sequence[tuple[str, str]] = (("S1", "Seq1"), ("S3", "Seq2")),
    cameras: Sequence[int] = (0, 8),
) -> MpiInfTruth:
    """Write training ``sequences`` of ``people`` frames as ``cameras`` see them, and the test sequences TS1 and TS5."""
    train: dict[tuple[str, str, int], CapturedPeople] = {}
    outside = (-30.0, 700.0)
    for place, (subject, sequence) in enumerate(sequences):
        views = {}
        for camera in cameras:
            number = seed * 1000 + place * NUM_CAMERAS + camera
            views[camera] = _with_outside(capture_people(body, people, number, SIZE, FOCAL), OUTSIDE, outside)
            train[subject, sequence, camera] = views[camera]
            folder = root / subject / sequence / "imageSequence"
            write_video(folder / f"video_{camera}.avi", views[camera], "MJPG", RATE)
        write_annotations(root / subject / sequence / "annot.mat", views)
    test = {}
    for place, (name, size) in enumerate(TEST_SIZES.items()):
        captured = capture_people(body, TEST_FRAMES, seed * 1000 + 500 + place, size, FOCAL * size[1] / SIZE[1])
        test[name] = _with_outside(captured, CUT, outside)
        _write_test(root / "mpi_inf_3dhp_test_set" / name, test[name])
    return MpiInfTruth(train, test, outside)


def _with_outside(people: CapturedPeople, frame: int, point: tuple[float, float]) -> CapturedPeople:
    people.pixels[frame, 6] = point
    return people


def write_annotations(path: Path, views: Mapping[int, CapturedPeople]) -> None:
    """``annot.mat``: cell arrays with a cell per camera; of cameras that are not written the joints are elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    anybody = next(iter(views.values()))
    names = {"annot2": 2, "annot3": 3, "univ_annot3": 3}
    cells = {name: np.empty((NUM_CAMERAS, 1), object) for name in names}
    for camera in range(NUM_CAMERAS):
        people = views.get(camera)
        for name, width in names.items():
            full = np.full((len(anybody), 28, width), 99999.0)
            if people is not None:
                values = {"annot2": people.pixels, "annot3": people.joints * 1000}
                values["univ_annot3"] = (people.joints[:, 14:15] + _UNIVERSAL * people.relative()) * 1000
                for joint, slot in enumerate(_TRAIN_SLOTS):
                    if slot >= 0:
                        full[:, joint] = values[name][:, slot]
            cells[name][camera, 0] = full.reshape(len(anybody), -1)
    frames = np.arange(len(anybody))[:, None]
    scipy.io.savemat(path, {**cells, "cameras": np.arange(NUM_CAMERAS), "frames": frames}, do_compression=True)


def _write_test(folder: Path, people: CapturedPeople) -> None:
    """``annot_data.mat`` of version 7.3, in which HDF5 has the axes in reverse, and the pictures."""
    (folder / "imageSequence").mkdir(parents=True, exist_ok=True)
    slots = list(_TEST_SLOTS)
    root = people.joints[:, 14:15]
    path = folder / "annot_data.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["annot2"] = people.pixels[:, None, slots]
        file["annot3"] = 1000 * people.joints[:, None, slots]
        file["univ_annot3"] = 1000 * (root + _UNIVERSAL * people.relative())[:, None, slots]
        file["valid_frame"] = (np.arange(len(people)) != INVALID).astype(np.float64)[:, None]
        file["activity_annotation"] = (1 + np.arange(len(people)) % 7).astype(np.float64)[:, None]
    stamp_matlab(path)
    for frame in range(len(people)):
        assert cv2.imwrite(str(folder / "imageSequence" / f"img_{frame + 1:06d}.jpg"), people.picture(frame))
