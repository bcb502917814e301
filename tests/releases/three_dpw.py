"""A miniature of 3DPW: its folders and pickles with a few frames of five sequences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from tests.releases.python2_pickle import dump_python2
from tests.releases.smpl_tracks import Camera, Track, random_track, write_picture

POINTS = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear",
)  # fmt: skip
"""The order of ``poses2d``: OpenPose with the 18 points of COCO."""

SEQUENCES = {
    "courtyard_backpack_00": ("train", 1),
    "courtyard_dancing_01": ("train", 2),
    "courtyard_basketball_01": ("validation", 1),
    "downtown_arguing_00": ("test", 2),
    "downtown_stairs_00": ("test", 1),
}
"""Split and number of people; in the order of the label files within each split."""

NO_CAMERA, NO_POINTS = 1, 2
"""Frames: the camera pose of the first person is not valid; the first person of the tests has no 2D pose."""


@dataclass(frozen=True)
class TruePerson:
    """Truth about one person of one sequence.

    Attributes:
        split, sequence, person: which.
        track: the motion.
        points: ``(N, 18, 3)`` the 2D pose, with confidence.
        labelled: ``(N,)`` frames that a label file should have.
    """

    split: str
    sequence: str
    person: int
    track: Track
    points: np.ndarray
    labelled: np.ndarray


def write_three_dpw(root: Path, body: BodyModel, frames: int = 4, seed: int = 0) -> list[TruePerson]:
    """Write the release to ``root``; ``body`` stands in for SMPL of both genders. At least 3 frames."""
    rng = np.random.default_rng(seed)
    people = []
    for sequence, (split, count) in SEQUENCES.items():
        camera = Camera.random(frames, rng)
        tracks = [random_track(body, camera, rng, "mf"[k], aside=0.8 * k - 0.4 * (count - 1)) for k in range(count)]
        theirs = [_person(split, sequence, k, track, rng) for k, track in enumerate(tracks)]
        dump_python2(_content(sequence, theirs, rng), root / "sequenceFiles" / split / f"{sequence}.pkl")
        for frame in range(frames):
            path = root / "imageFiles" / sequence / f"image_{frame:05d}.jpg"
            write_picture(path, [person.track.pixels(POINTS)[frame] for person in theirs], rng)
        people += theirs
    return people


def _person(split: str, sequence: str, person: int, track: Track, rng: np.random.Generator) -> TruePerson:
    pixels = track.pixels(POINTS)
    confidence = rng.uniform(0.2, 1, (*pixels.shape[:2], 1))
    confidence[:, rng.integers(18)] = 0  # a point that the detector did not find
    labelled = np.ones(len(pixels), bool)
    if person == 0:
        labelled[NO_CAMERA] = False
        if split == "test":
            confidence[NO_POINTS] = 0
            labelled[NO_POINTS] = False
    points = np.concatenate([pixels, confidence], axis=-1)
    points[confidence[..., 0] == 0] = 0
    return TruePerson(split, sequence, person, track, points, labelled)


def _content(sequence: str, people: list[TruePerson], rng: np.random.Generator) -> dict[str, Any]:
    frames = len(people[0].points)
    valid = [np.ones(frames, np.int64) for _ in people]
    valid[0][NO_CAMERA] = 0
    tracks = [person.track for person in people]
    return {
        "sequence": sequence,
        "betas": [np.concatenate([track.betas, rng.normal(0, 1, 290)]) for track in tracks],
        "poses": [track.pose for track in tracks],
        "trans": [track.trans for track in tracks],
        "poses_60Hz": [np.repeat(track.pose, 2, axis=0) for track in tracks],
        "trans_60Hz": [np.repeat(track.trans, 2, axis=0) for track in tracks],
        "betas_clothed": [track.betas for track in tracks],
        "v_template_clothed": [rng.normal(0, 1, (5, 3)) for _ in tracks],
        "genders": [track.gender for track in tracks],
        "texture_maps": [np.zeros((2, 2, 3), np.uint8) for _ in tracks],
        "poses2d": [person.points.transpose(0, 2, 1).copy() for person in people],
        "jointPositions": [track.joints(SMPL24).reshape(frames, 72) for track in tracks],
        "img_frame_ids": np.arange(0, 2 * frames, 2),
        "cam_poses": tracks[0].camera.extrinsics,
        "campose_valid": valid,
        "cam_intrinsics": tracks[0].camera.intrinsics,
    }
