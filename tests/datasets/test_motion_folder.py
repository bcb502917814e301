from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffhmr.datasets.motion_folder import MotionFolder, _splits
from diffhmr.errors import UserError
from diffhmr.motion.sequence import Motion
from diffhmr.random import Floats, Seeds, item_seeds

SEEDS = item_seeds(0, "train", np.arange(300))
SPLITS = ("train", "val", "test")
LEFT_KNEE, RIGHT_KNEE = 4, 5


def _write(path: Path, mark: float, frames: int = 40, fps: float = 30.0) -> Motion:
    """A motion that can be told by the angle of the left knee, and its frames by that of the spine."""
    vectors = np.zeros((frames, 24, 3))
    vectors[:, LEFT_KNEE, 0] = mark
    vectors[:, 3, 1] = 0.01 * np.arange(frames)
    position = np.stack([5 + 0.1 * np.arange(frames), np.full(frames, 0.9), np.full(frames, -3.0)], axis=-1)
    rotations = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(frames, 24, 3, 3)
    motion = Motion(rotations, position, fps, path.stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    motion.save(path)
    return motion


def _read(rotations: Floats) -> tuple[Floats, Floats, Floats]:
    """Marks ``[B]``, numbers ``[B, T]`` of the frames, and ``[B]`` whether the pieces are mirrored."""
    vectors = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec().reshape(*rotations.shape[:3], 3)
    left, right = vectors[:, 0, LEFT_KNEE, 0], vectors[:, 0, RIGHT_KNEE, 0]
    mirrored = np.abs(left) < 1e-5
    numbers = vectors[:, :, 3, 1] / 0.01 * np.where(mirrored, -1, 1)[:, None]
    return np.where(mirrored, right, left), numbers, mirrored


def _marks(folder: Path, split: str, seeds: Seeds = SEEDS) -> set[float]:
    return set(_read(MotionFolder(folder, split, 30.0)(seeds, 2)[0])[0].round(4))


def test_pieces_are_those_of_the_file(tmp_path: Path) -> None:
    motion = _write(tmp_path / "a.npz", 0.5)
    folder = MotionFolder(tmp_path, "train", 30.0)
    assert len(folder) == 40
    rotations, position = folder(SEEDS, 16)
    assert rotations.shape == (300, 16, 24, 3, 3) and position.shape == (300, 16, 3)
    _, numbers, mirrored = _read(rotations)
    first = numbers[:, 0].round().astype(int)
    np.testing.assert_allclose(numbers, first[:, None] + np.arange(16), atol=1e-3)
    for item in range(30):
        piece = motion.slice(first[item], first[item] + 16)
        expected = piece.mirror() if mirrored[item] else piece
        np.testing.assert_allclose(rotations[item], expected.rotations, atol=1e-6)
    # The person is over the origin in the first frame, at the height of the file.
    np.testing.assert_allclose(position[:, 0], np.broadcast_to([0, 0.9, 0], (300, 3)), atol=1e-6)
    way = 0.1 * np.arange(16) * np.where(mirrored, -1, 1)[:, None]
    np.testing.assert_allclose(position[..., 0], way, atol=1e-5)
    # Pieces begin everywhere, but so that they end with the file; the last beginning stands for all later frames.
    assert set(first) == set(range(25))
    assert (first == 24).mean() == pytest.approx(16 / 40, abs=0.08)
    assert (first < 8).mean() == pytest.approx(8 / 40, abs=0.06)


def test_half_of_the_pieces_are_mirrored(tmp_path: Path) -> None:
    _write(tmp_path / "a.npz", 0.5)
    mirrored = _read(MotionFolder(tmp_path, "train", 30.0)(SEEDS, 4)[0])[2]
    assert mirrored.mean() == pytest.approx(0.5, abs=0.08)


def test_short_files_hold_their_last_frame(tmp_path: Path) -> None:
    _write(tmp_path / "a.npz", 0.5, frames=5)
    rotations, position = MotionFolder(tmp_path, "train", 30.0)(SEEDS[:20], 9)
    expected = np.minimum(np.arange(9), 4)
    np.testing.assert_allclose(_read(rotations)[1], np.broadcast_to(expected, (20, 9)), atol=1e-3)
    np.testing.assert_allclose(np.abs(position[..., 0]), np.broadcast_to(0.1 * expected, (20, 9)), atol=1e-5)


def test_files_count_by_their_length_and_in_any_folder(tmp_path: Path) -> None:
    _write(tmp_path / "sub" / "sub" / "short.npz", 0.2, frames=10)
    _write(tmp_path / "long.npz", 0.7, frames=90)
    np.savez(tmp_path / "shape.npz", betas=np.zeros(10))
    marks = _read(MotionFolder(tmp_path, "train", 30.0)(SEEDS, 3)[0])[0]
    assert (np.abs(marks - 0.2) < 1e-4).mean() == pytest.approx(0.1, abs=0.05)
    assert ((np.abs(marks - 0.2) < 1e-4) | (np.abs(marks - 0.7) < 1e-4)).all()


def test_files_of_any_rate(tmp_path: Path) -> None:
    _write(tmp_path / "a.npz", 0.5, frames=41, fps=60.0)
    folder = MotionFolder(tmp_path, "train", 30.0)
    assert len(folder) == 21
    numbers = _read(folder(SEEDS[:10], 6)[0])[1]
    np.testing.assert_allclose(np.diff(numbers, axis=1), 2, atol=1e-3)


def test_pieces_are_functions_of_their_seeds(tmp_path: Path) -> None:
    for number in range(3):
        _write(tmp_path / f"{number}.npz", 0.1 + 0.1 * number)
    folder = MotionFolder(tmp_path, "train", 30.0)
    rotations, position = folder(SEEDS[:20], 8)
    for item in (0, 13):
        alone = MotionFolder(tmp_path, "train", 30.0)(SEEDS[item : item + 1], 8)
        np.testing.assert_array_equal(alone[0][0], rotations[item])
        np.testing.assert_array_equal(alone[1][0], position[item])


def test_splits_share_no_file_if_there_are_twenty(tmp_path: Path) -> None:
    names = [f"walk_{number:02d}" for number in range(40)]
    for number, name in enumerate(names):
        _write(tmp_path / f"{name}.npz", 0.02 * (number + 1), frames=6)
    many = item_seeds(1, "train", np.arange(2000))
    train, val, test = (_marks(tmp_path, split, many) for split in SPLITS)
    assert not train & val and not train & test and not val & test
    assert len(train | val | test) == 40 and len(train) > 25
    # A new file changes nothing for the others: the name decides.
    grown = tmp_path.with_name("grown")
    shutil.copytree(tmp_path, grown)
    _write(grown / "another.npz", 0.95, frames=6)
    added = [_marks(grown, split, many) - old for split, old in zip(SPLITS, (train, val, test), strict=True)]
    assert sorted(added, key=len) == [set(), set(), {0.95}]


def test_few_files_are_in_all_splits(tmp_path: Path) -> None:
    for number in range(19):
        _write(tmp_path / f"{number}.npz", 0.02 * (number + 1), frames=4)
    sets = [_marks(tmp_path, split) for split in SPLITS]
    assert sets[0] == sets[1] == sets[2] and len(sets[0]) == 19


def test_a_split_without_files(tmp_path: Path) -> None:
    _write(tmp_path / "0" / "walk.npz", 0.1, frames=4)
    content = (tmp_path / "0" / "walk.npz").read_bytes()
    # Names that all fall to one split: found by trying.
    chosen = []
    for number in range(400):
        path = tmp_path / "one" / f"{number}.npz"
        path.parent.mkdir(exist_ok=True)
        if sha256(path.name.encode()).digest()[0] % 10 < 8:
            path.write_bytes(content)
            chosen.append(path)
        if len(chosen) == 20:
            break
    # Then each of the others gets one of them, always the same.
    names = [path.name for path in chosen]
    splits = _splits(names)
    assert splits == _splits(names[::-1]) and [list(splits.values()).count(split) for split in SPLITS] == [18, 1, 1]
    frames = [len(MotionFolder(tmp_path / "one", split, 30.0)) for split in SPLITS]
    assert frames == [72, 4, 4]


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder of motions not found: .*none; correct data\.motions"):
        MotionFolder(tmp_path / "none", "train", 30.0)
    (tmp_path / "readme.txt").write_text("no motion")
    with pytest.raises(UserError, match=r"no \.npz file in the folder of motions"):
        MotionFolder(tmp_path, "train", 30.0)
    np.savez(tmp_path / "a.npz", poses=np.zeros((4, 72)))
    with pytest.raises(UserError, match=r"a\.npz holds no motion"):
        MotionFolder(tmp_path, "train", 30.0)
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"a\.npz") as caught:
        MotionFolder(tmp_path, "train", 30.0)
    assert "\n" not in str(caught.value)
