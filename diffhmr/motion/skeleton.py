"""A recording as its file tells it: any skeleton, rotations relative to the parent joints, any units and axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Recording:
    """Frames of a skeleton with N joints; parents come before their children, the root is joint 0.

    Attributes:
        joint_names: N names as in the file.
        parents: N indices, -1 for the root.
        offsets: ``[N, 3]`` of each joint from its parent when all rotations are zero, in the units of the file.
        rotations: ``[T, N, 3, 3]`` relative to the parent; of the root, relative to the world of the file.
        translations: ``[T, N, 3]`` of each joint in its parent's frame: the offsets, unless the file moves the joint.
        fps: frames per second.
        name: of the recording.
        ends: where the bones of some joints end, ``[3]`` in the frame of the joint (BVH's end sites).
    """

    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    fps: float
    name: str
    ends: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        frames, joints = len(self.rotations), len(self.joint_names)
        assert len(self.parents) == joints and self.offsets.shape == (joints, 3)
        assert self.rotations.shape == (frames, joints, 3, 3) and self.translations.shape == (frames, joints, 3)
        assert self.parents[0] == -1 and all(0 <= parent < k for k, parent in enumerate(self.parents) if k)

    def __len__(self) -> int:
        """Number of frames T."""
        return len(self.rotations)

    def world(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotations ``[T, N, 3, 3]`` and positions ``[T, N, 3]`` of the joints in the world of the file."""
        turns, points = np.empty_like(self.rotations), np.empty_like(self.translations)
        for joint, parent in enumerate(self.parents):
            if parent < 0:
                turns[:, joint], points[:, joint] = self.rotations[:, joint], self.translations[:, joint]
            else:
                turns[:, joint] = turns[:, parent] @ self.rotations[:, joint]
                shift = turns[:, parent] @ self.translations[:, joint, :, None]
                points[:, joint] = points[:, parent] + shift[..., 0]
        return turns, points

    def zero_pose(self) -> Recording:
        """One frame with all rotations zero and the joints where the skeleton's definition has them."""
        eye = np.tile(np.eye(3), (1, len(self.joint_names), 1, 1))
        return replace(self, rotations=eye, translations=self.offsets[None].copy())

    def frame(self, index: int) -> Recording:
        """One frame."""
        return replace(
            self, rotations=self.rotations[index : index + 1], translations=self.translations[index : index + 1]
        )

    def turned(self, rotation: np.ndarray) -> Recording:
        """The recording in a world whose axes are ``rotation [3, 3]`` times those of the file."""
        rotations, translations = self.rotations.copy(), self.translations.copy()
        rotations[:, 0] = rotation @ rotations[:, 0]
        translations[:, 0] = translations[:, 0] @ rotation.T
        return replace(self, rotations=rotations, translations=translations)

    def ancestors(self, joint: int) -> Iterator[int]:
        """The joint's parent, its parent, and so on up to the root."""
        while (joint := self.parents[joint]) >= 0:
            yield joint

    def path(self, above: int, below: int) -> list[int]:
        """Joints after ``above`` down to ``below``; empty when ``above`` is no ancestor of ``below``."""
        line = [below, *self.ancestors(below)]
        return line[: line.index(above)][::-1] if above in line else []
