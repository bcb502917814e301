"""AMASS: archives against the motions from which a miniature release was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffhmr.command_line import run_command
from diffhmr.datasets.archive import MotionArchive
from diffhmr.errors import UserError
from diffhmr.random import item_seeds
from scripts.prepare_amass import frame_indices, jumps, main, read_meta
from tests.releases.amass import RECORDINGS, SECONDS, TrueRecording, write_amass


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, TrueRecording]]:
    root = tmp_path_factory.mktemp("amass") / "raw"
    return root, write_amass(root)


def run(root: Path, out: Path, *words: str) -> int:
    return run_command(lambda: main(["--root", str(root), "--out", str(out), *words]))


@pytest.mark.parametrize("fps", [10.0, 30.0])
def test_archives_hold_the_motions_at_the_frame_rate(
    release: tuple[Path, dict[str, TrueRecording]], tmp_path: Path, fps: float
) -> None:
    assert run(release[0], tmp_path, "--fps", str(fps)) == 0
    splits = {"train": ("ACCAD", "CMU"), "validation": ("SFU",), "test": ("SSM",)}
    for split, subsets in splits.items():
        with np.load(tmp_path / split / "poses.npz", allow_pickle=False) as content:
            poses, begins = content["poses"], content["begins"]
            assert content["mocap_framerate"] == fps
        assert poses.dtype == np.float32 and poses.shape[1] == 72 and not poses[:, 66:].any()
        names = [name for name in RECORDINGS if name.split("/")[0] in subsets]
        starts = np.flatnonzero(begins)
        assert len(starts) == len(names)
        for name, recorded in zip(names, np.split(poses, starts[1:]), strict=True):
            framerate = RECORDINGS[name]
            truth = release[1][name]
            # Frames of the recording, each the nearest to its time.
            assert abs(len(recorded) - SECONDS * fps) <= 1
            seconds = np.arange(len(recorded)) / fps
            nearest = np.rint(seconds * framerate) / framerate
            assert np.abs(nearest - seconds).max() <= 0.5 / framerate + 1e-9
            np.testing.assert_allclose(recorded[:, :66], truth.poses(nearest), atol=1e-6)


def test_the_synthetic_people_can_take_their_poses_there(
    release: tuple[Path, dict[str, TrueRecording]], tmp_path: Path
) -> None:
    assert run(release[0], tmp_path) == 0
    archive = MotionArchive(tmp_path / "train")
    with np.load(tmp_path / "train" / "poses.npz") as content:
        poses = content["poses"]
    assert len(archive) == len(poses)
    rotations = archive(item_seeds(0, "train", range(50)))
    stored = Rotation.from_rotvec(poses[:, 3:66].reshape(-1, 3)).as_matrix().reshape(-1, 21, 3, 3)
    distance = np.abs(rotations[:, None, 1:22] - stored[None]).max(axis=(2, 3, 4)).min(axis=1)
    assert distance.max() < 1e-5
    np.testing.assert_array_equal(rotations[:, 22:], np.broadcast_to(np.eye(3), (50, 2, 3, 3)))


def test_bad_recordings_are_left_out_and_counted(
    release: tuple[Path, dict[str, TrueRecording]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(release[0], tmp_path, "--splits", "train", "--exclude", "CMU/01/*") == 0
    told = capsys.readouterr().out
    assert all(f"recordings {what}" in told for what in ("excluded: 2", "too short: 1", "with jumps: 1"))
    assert not (tmp_path / "test").exists()
    assert run(release[0], tmp_path / "fast", "--fps", "100", "--splits", "train", "--min-seconds", "0.1") == 0
    told = capsys.readouterr().out
    assert all(f"recordings {what}" in told for what in ("too short: 0", "slower than --fps: 2", "with jumps: 1"))


def test_frame_indices() -> None:
    np.testing.assert_array_equal(frame_indices(13, 120, 10), [0, 12])
    np.testing.assert_array_equal(frame_indices(12, 120, 10), [0])
    np.testing.assert_array_equal(frame_indices(10, 100, 30), [0, 3, 7])
    np.testing.assert_array_equal(frame_indices(5, 59.0, 59.0), range(5))
    np.testing.assert_array_equal(frame_indices(1, 60, 10), [0])


def test_jumps_are_turns_and_not_other_numbers_for_the_same_turn() -> None:
    still = np.zeros((3, 66))
    still[:, 3:6] = [[0, 0, 3.0], [0, 0, 3.1], [0, 0, 3.2]]
    assert not jumps(still)
    still[2, 3:6] = [0, 0, 3.2 - 2 * np.pi]
    assert not jumps(still)
    still[2, 3:6] = [0, 0, 1.5]
    assert jumps(still)
    assert not jumps(still[:1])


def test_damaged_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "raw"
    write_amass(root)
    path = root / "CMU/01/01_01_poses.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    assert run(root, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert str(path) in error and error.count("\n") == 1
    np.savez(path, poses=np.zeros((100, 66)))
    assert run(root, tmp_path / "out") == 2
    assert "frame rate" in capsys.readouterr().err
    np.savez(path, poses=np.zeros((100, 21)), mocap_framerate=60.0)
    assert run(root, tmp_path / "out") == 2
    assert "shape (100, 21)" in capsys.readouterr().err
    # It goes on where it stopped, and makes what an undisturbed run makes.
    path.write_bytes(whole)
    assert run(root, tmp_path / "out") == 0
    assert run(root, tmp_path / "other") == 0
    for split in ("train", "validation", "test"):
        name = Path(split, "poses.npz")
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_what_macos_puts_beside_the_files_is_no_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "raw"
    write_amass(root)
    (root / "CMU/01/._01_01_poses.npz").write_bytes(b"Mac OS X        ")
    (root / "__MACOSX/CMU/01").mkdir(parents=True)
    (root / "__MACOSX/CMU/01/._01_01_poses.npz").write_bytes(b"Mac OS X        ")
    assert run(root, tmp_path / "out", "--check") == 0
    assert "ACCAD 1, CMU 5  " in capsys.readouterr().out
    assert run(root, tmp_path / "out") == 0


def test_a_root_above_the_subsets_does_not_put_tests_into_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_amass(tmp_path / "raw" / "AMASS")
    assert run(tmp_path / "raw", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "the subset SFU lies too deep; give the folder of the subsets as --root" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_check(
    release: tuple[Path, dict[str, TrueRecording]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "nothing", tmp_path, "--check") == 0
    told = capsys.readouterr().out
    assert "0 files" in told and "https://amass.is.tue.mpg.de" in told
    assert "missing     subsets for train       none of the other subsets" in told
    assert "missing     subsets for test        none of Transitions, SSM" in told
    assert run(tmp_path / "nothing", tmp_path) == 2
    assert "recordings missing" in capsys.readouterr().err
    assert run(release[0], tmp_path, "--check") == 0
    told = capsys.readouterr().out
    assert "8 files" in told and "found       subsets for train       ACCAD 1, CMU 5" in told
    assert "incomplete  subsets for validation  SFU 1, none of HumanEva, HDM05, MoSh" in told
    assert "incomplete  subsets for test        SSM 1, none of Transitions" in told
    assert run(release[0], tmp_path, "--fps", "0") == 2


def test_other_settings_do_not_mix(
    release: tuple[Path, dict[str, TrueRecording]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(release[0], tmp_path) == 0
    before = (tmp_path / "train" / "poses.npz").stat().st_mtime_ns
    assert run(release[0], tmp_path) == 0
    assert (tmp_path / "train" / "poses.npz").stat().st_mtime_ns == before
    capsys.readouterr()
    assert run(release[0], tmp_path, "--fps", "20") == 2
    assert "made with other settings (settings)" in capsys.readouterr().err


@pytest.mark.parametrize("content", [{"begins": np.zeros(()), "meta": np.array("{}")}, {"begins": np.zeros(2),
                                     "meta": np.array("[1]")}, {"poses": np.zeros(3)}, None])  # fmt: skip
def test_a_foreign_archive_is_named(tmp_path: Path, content: dict[str, np.ndarray] | None) -> None:
    path = tmp_path / "poses.npz"
    if content is None:
        np.save(path.open("wb"), np.zeros(3))
    else:
        np.savez(path, **content)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"poses\.npz was not made by this command"):
        read_meta(path)
