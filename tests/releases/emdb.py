"""A miniature of EMDB: its folders and pickles with a few frames of two sequences of EMDB 1 and one other."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from tests.releases.smpl_tracks import SIZE, Camera, Track, random_track, write_picture

SEQUENCES = {
    "P1/14_outdoor_climb": "male",
    "P5/44_indoor_rom": "female",
    "P0/09_outdoor_walk": "male",
}
"""With the gender; the last is of EMDB 2 only."""

BAD, NO_BOX = 0, 2
"""Frames: one in which the person is out of view, one whose box is marked as invalid."""


@dataclass(frozen=True)
class TruePerson:
    """Truth about one sequence: the motion, the boxes ``(N, 4)`` and the frames that a label file should have."""

    sequence: str
    track: Track
    boxes: np.ndarray
    labelled: np.ndarray


def write_emdb(root: Path, body: BodyModel, frames: int = 4, seed: int = 0) -> list[TruePerson]:
    """Write the release to ``root``; ``body`` stands in for SMPL of both genders. At least 3 frames."""
    rng = np.random.default_rng(seed)
    people = []
    for sequence, gender in SEQUENCES.items():
        folder = root / sequence
        track = random_track(body, Camera.random(frames, rng), rng, gender[0])
        pixels = track.pixels(SMPL24.joint_names)
        boxes = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)
        boxes[BAD] = 0
        good = np.arange(frames) != BAD
        invalid = np.array([BAD, NO_BOX])
        name = sequence.replace("/", "_")
        content = {
            "gender": gender,
            "name": name,
            "emdb1": np.bool_(sequence[:2] != "P0"),
            "emdb2": sequence[:2] == "P0",
            "n_frames": frames,
            "good_frames_mask": good,
            "camera": {
                "intrinsics": track.camera.intrinsics,
                "extrinsics": track.camera.extrinsics,
                "width": SIZE[0],
                "height": SIZE[1],
            },
            "smpl": {
                "poses_root": track.pose[:, :3].astype(np.float32),
                "poses_body": track.pose[:, 3:].astype(np.float32),
                "trans": track.trans.astype(np.float32),
                "betas": track.betas.astype(np.float32),
            },
            "kp2d": pixels,
            "bboxes": {"bboxes": boxes, "invalid_idxs": invalid},
        }
        for frame in range(frames):
            write_picture(folder / "images" / f"{frame:05d}.jpg", [pixels[frame]], rng)
        (folder / f"{name}_data.pkl").write_bytes(pickle.dumps(content, protocol=4))
        people.append(TruePerson(sequence, track, boxes, good & ~np.isin(np.arange(frames), invalid)))
    return people
