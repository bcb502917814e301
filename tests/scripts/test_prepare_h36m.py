"""Human3.6M from a miniature release: what comes out is what was put in."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffhmr.body.model import BodyModel
from diffhmr.command_line import run_command
from diffhmr.datasets.labels import Labels, read_labels
from diffhmr.errors import UserError
from scripts.prepare_h36m import Human36M, main
from tests.releases.captured_people import number_in, write_video
from tests.releases.h36m import SLOTS, H36mVideo, write_h36m, write_masks, write_mosh, write_poses

SPLITS = {"train": ("S1",), "valid_protocol1": ("S9", "S11"), "valid_protocol2": ("S9", "S11")}
Release = tuple[Path, list[H36mVideo]]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, free_body: BodyModel) -> Release:
    root = tmp_path_factory.mktemp("h36m") / "raw"
    return root, write_h36m(root, free_body)


@pytest.fixture(scope="module")
def prepared(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("h36m") / "out"
    assert _prepare(release[0], out) == 0
    return out


@pytest.fixture
def small(tmp_path: Path, free_body: BodyModel) -> tuple[Path, H36mVideo]:
    """A release of one video, to be damaged."""
    root = tmp_path / "raw"
    truths = write_h36m(root, free_body, scenes=[("S9", "Walking 1")], cameras=["60457274"])
    return root, truths[0]


def _prepare(root: Path, out: Path, *words: str) -> int:
    return main(["--root", str(root), "--out", str(out), "--partial", *words])


def _prepare_small(root: Path, out: Path, *words: str) -> Labels:
    _prepare(root, out, "--splits", "valid_protocol2", *words)
    return read_labels(out / "valid_protocol2.npz")


def _videos(truths: Sequence[H36mVideo], split: str) -> list[H36mVideo]:
    """In the order of the label file."""
    cameras = ("60457274",) if split == "valid_protocol2" else ("54138969", "60457274")
    found = [truth for truth in truths if truth.subject in SPLITS[split] and truth.camera in cameras]
    return sorted(found, key=lambda truth: (SPLITS[split].index(truth.subject), truth.camera))


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_those_of_the_release(release: Release, prepared: Path, split: str) -> None:
    labels = read_labels(prepared / f"{split}.npz")
    videos = _videos(release[1], split)
    rows = [(video, frame) for video in videos for frame in (0, 5, 10)]
    assert list(labels.imgname) == [video.imgname(frame) for video, frame in rows]
    for row, (video, frame) in enumerate(rows):
        columns = [25 + slot for slot in SLOTS]
        others = np.setdiff1d(np.arange(49), columns)
        relative = video.people.relative()[frame]
        np.testing.assert_allclose(labels.joints3d[row, columns, :3], relative[list(SLOTS)], atol=2e-6)
        np.testing.assert_array_equal(labels.joints3d[row, columns, 3], 1)
        np.testing.assert_allclose(
            labels.keypoints[row, columns, :2], video.people.pixels[frame, list(SLOTS)], atol=1e-3
        )
        np.testing.assert_array_equal(labels.keypoints[row, columns, 2], 1)
        assert not labels.joints3d[row, others].any() and not labels.keypoints[row, others].any()
        x0, y0, x1, y1 = video.masks[frame]
        np.testing.assert_allclose(labels.center[row], [(x0 + x1) / 2, (y0 + y1) / 2])
        np.testing.assert_allclose(labels.side[row], 0.9 * (max(x1 - x0, y1 - y0) + 1), rtol=1e-6)
        extra = {name: labels.extra[name][row] for name in ("frame", "camera", "subject", "action", "sequence")}
        assert extra == {
            "frame": frame,
            "camera": video.camera,
            "subject": video.subject,
            "action": video.action.split(" ")[0],
            "sequence": f"{video.subject}_{video.action.replace(' ', '_')}",
        }
        assert tuple(labels.extra["image_size"][row]) == video.people.size
    assert not labels.has_smpl.any()
    assert labels.meta["counts"] == {
        "boxes of joints for want of masks": 0,
        "labelled frames that the videos lack": 0,
    }
    assert labels.meta["partial"]


def test_pictures_show_the_frames_that_the_labels_name(prepared: Path) -> None:
    for split in SPLITS:
        labels = read_labels(prepared / f"{split}.npz")
        for name, frame in zip(labels.imgname, labels.extra["frame"], strict=True):
            assert number_in(prepared / "images" / str(name)) == frame
            assert str(name).endswith(f"_{frame + 1:06d}.jpg")


def test_the_second_protocol_is_the_frontal_camera_of_the_first(prepared: Path) -> None:
    first, second = (read_labels(prepared / f"valid_protocol{number}.npz") for number in (1, 2))
    frontal = first.rows(first.extra["camera"] == "60457274")
    assert list(frontal.imgname) == list(second.imgname) and 0 < len(second) < len(first)
    np.testing.assert_array_equal(frontal.joints3d, second.joints3d)


def test_the_damaged_video_and_scenes_without_action_are_left_out(release: Release, prepared: Path) -> None:
    assert (release[0] / "S11" / "Videos" / "Directions.54138969.mp4").is_file()
    names = read_labels(prepared / "valid_protocol1.npz").imgname
    assert not any("S11_Directions.54138969" in name or "_ALL" in name for name in names)
    assert any("S11_Directions.60457274" in name for name in names)


def test_old_matlab_files_and_the_other_byte_order_give_the_same(small: tuple[Path, H36mVideo], tmp_path: Path) -> None:
    root, truth = small
    _prepare_small(root, tmp_path / "new")
    folder = root / "S9" / "MySegmentsMat" / "ground_truth_bb"
    write_masks(folder / "Walking 1.60457274.mat", truth, version="5")
    for name, width in (("D3_Positions_mono", 3), ("D2_Positions", 2)):
        path = root / "S9" / "MyPoseFeatures" / name / "Walking 1.60457274.cdf"
        values = (truth.people.joints * 1000, truth.people.pixels)[width == 2]
        full = np.zeros((len(values), 32, width))
        full[:, [11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27]] = values[
            :, [14, 3, 4, 5, 2, 1, 0, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6]
        ]
        write_poses(path, full.reshape(len(values), -1), "row_major")
    _prepare_small(root, tmp_path / "old")
    new, old = (tmp_path / name / "valid_protocol2.npz" for name in ("new", "old"))
    assert new.read_bytes() == old.read_bytes()


def test_without_masks_boxes_are_those_of_the_joints(small: tuple[Path, H36mVideo], tmp_path: Path) -> None:
    root, truth = small
    path = root / "S9" / "MySegmentsMat" / "ground_truth_bb" / "Walking 1.60457274.mat"
    write_masks(path, truth, empty=[5])
    labels = _prepare_small(root, tmp_path / "blank")
    assert labels.meta["counts"]["boxes of joints for want of masks"] == 1
    path.unlink()
    without = _prepare_small(root, tmp_path / "without")
    assert without.meta["counts"]["boxes of joints for want of masks"] == 3
    for row, frame in enumerate((0, 5, 10)):
        points = truth.people.pixels[frame, list(SLOTS)]
        np.testing.assert_allclose(without.center[row], (points.min(0) + points.max(0)) / 2, atol=1e-3)
        np.testing.assert_allclose(without.side[row], 1.2 * np.ptp(points, axis=0).max(), rtol=1e-5)
        same = np.allclose(labels.side[row], without.side[row])
        assert same == (frame == 5)


def test_without_projections_there_are_no_2d_labels(small: tuple[Path, H36mVideo], tmp_path: Path) -> None:
    root, truth = small
    shutil.rmtree(root / "S9" / "MyPoseFeatures" / "D2_Positions")
    labels = _prepare_small(root, tmp_path / "out")
    assert not labels.keypoints.any() and labels.joints3d.any()
    write_masks(root / "S9" / "MySegmentsMat" / "ground_truth_bb" / "Walking 1.60457274.mat", truth, empty=[5])
    with pytest.raises(UserError, match=r"no mask of frame 5 in .*, and no D2_Positions either"):
        _prepare_small(root, tmp_path / "other")


def test_a_short_video_shortens_the_labels(
    small: tuple[Path, H36mVideo], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, truth = small
    people = truth.people
    first = type(people)(people.pose[:7], people.betas[:7], people.joints[:7], people.pixels[:7], people.size)
    write_video(root / "S9" / "Videos" / "Walking 1.60457274.mp4", first, "mp4v", 50)
    labels = _prepare_small(root, tmp_path / "out")
    assert list(labels.extra["frame"]) == [0, 5]
    assert labels.meta["counts"]["labelled frames that the videos lack"] == 1
    assert "Walking 1.60457274.mp4 has 2 of 3 labelled frames" in caplog.text


def test_mosh_is_turned_upright_and_assigned(release: Release, tmp_path: Path) -> None:
    root, truths = release
    for truth in truths[1:]:
        write_mosh(tmp_path / "mosh", truth)
    out = tmp_path / "out"
    assert _prepare(root, out, "--mosh", str(tmp_path / "mosh"), "--splits", "train,valid_protocol2") == 0
    for split in ("train", "valid_protocol2"):
        labels = read_labels(out / f"{split}.npz")
        rows = [(video, frame) for video in _videos(truths, split) for frame in (0, 5, 10)]
        for row, (video, frame) in enumerate(rows):
            assert labels.has_smpl[row] == (video is not truths[0])
            if video is truths[0]:
                assert not labels.pose[row].any()
                continue
            theirs, ours = (
                Rotation.from_rotvec(pose.reshape(24, 3)) for pose in (video.people.pose[frame], labels.pose[row])
            )
            assert (theirs.inv() * ours).magnitude().max() < 1e-5
            np.testing.assert_allclose(labels.betas[row], video.people.betas[0], rtol=1e-6)
    # The same from a label file with these parameters, whose folders are others.
    with np.load(out / "train.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name != "meta"}
    arrays["imgname"] = np.array([f"images/{name}" for name in arrays["imgname"]])[::-1]
    rest = {name: array[::-1] for name, array in arrays.items() if name != "imgname"}
    np.savez(tmp_path / "spin.npz", imgname=arrays["imgname"], **rest)
    again = tmp_path / "again"
    assert _prepare(root, again, "--mosh", str(tmp_path / "spin.npz"), "--splits", "train") == 0
    first, second = read_labels(out / "train.npz"), read_labels(again / "train.npz")
    np.testing.assert_array_equal(first.has_smpl, second.has_smpl)
    np.testing.assert_allclose(first.pose, second.pose, atol=1e-6)


def test_mosh_of_another_frame_or_length_is_refused(small: tuple[Path, H36mVideo], tmp_path: Path) -> None:
    root, truth = small
    mosh = tmp_path / "mosh"
    write_mosh(mosh, truth)
    (path,) = mosh.rglob("*.pkl")
    assert path.name == "Walking 1_cam3_aligned.pkl"
    content = pickle.loads(path.read_bytes())
    for poses, words in (
        (np.concatenate([content["new_poses"][:, :3] * [1, -1, 1], content["new_poses"][:, 3:]], 1), "does not agree"),
        (np.tile(content["new_poses"], (2, 1)), "neither one per frame nor one per 5 frames"),
        (content["new_poses"][:, :69], r"poses \(3, 69\)"),
    ):
        path.write_bytes(pickle.dumps({**content, "new_poses": poses}))
        with pytest.raises(UserError, match=words):
            _prepare_small(root, tmp_path / "out", "--mosh", str(mosh))
    path.write_bytes(pickle.dumps({"betas": content["betas"]}))
    with pytest.raises(UserError, match="holds no new_poses and betas"):
        _prepare_small(root, tmp_path / "out", "--mosh", str(mosh))
    path.write_bytes(pickle.dumps({**content, "new_poses": Path("x")}))
    with pytest.raises(UserError, match="could run code"):
        _prepare_small(root, tmp_path / "out", "--mosh", str(mosh))
    with pytest.raises(UserError, match=r"--mosh .*absent does not exist"):
        _prepare_small(root, tmp_path / "out", "--mosh", str(tmp_path / "absent"))


def test_crops_come_from_the_videos(release: Release, prepared: Path, tmp_path: Path) -> None:
    assert _prepare(release[0], tmp_path, "--crops", "--splits", "valid_protocol2") == 0
    crops, whole = read_labels(tmp_path / "valid_protocol2_crops.npz"), read_labels(prepared / "valid_protocol2.npz")
    np.testing.assert_array_equal(crops.joints3d, whole.joints3d)
    assert not (tmp_path / "images").exists()
    for row, name in enumerate(crops.imgname):
        image = cv2.imread(str(tmp_path / "crops" / str(name)))
        assert image is not None and image.shape[1::-1] == tuple(crops.extra["image_size"][row])
        for x, y in crops.keypoints[row, [25 + slot for slot in SLOTS], :2]:  # all lie on the drawn bones
            assert image[round(y), round(x), 2] > 180


def test_check_says_what_to_get_on_a_machine_that_has_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(lambda: main(["--root", str(tmp_path / "raw"), "--check"])) == 0
    text = capsys.readouterr().out
    for words in (
        "train 3D poses  0 of 600", "train videos    0 of 600", "valid 3D poses  0 of 239", "valid videos    0 of 239",
        "http://vision.imar.ro/human3.6m", "Poses D3 Positions mono", "S1/MyPoseFeatures/D3_Positions_mono",
    ):  # fmt: skip
        assert words in text
    assert not (tmp_path / "raw").exists()
    assert run_command(lambda: main(["--root", str(tmp_path / "raw"), "--out", str(tmp_path / "out")])) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: h36m: train 3D poses missing") and error.count("\n") == 1


def test_check_names_what_is_missing(small: tuple[Path, H36mVideo], capsys: pytest.CaptureFixture[str]) -> None:
    root, _ = small
    (root / "S9" / "Videos" / "Walking 1.60457274.mp4").unlink()
    write_poses(root / "S9" / "MyPoseFeatures" / "D3_Positions_mono" / "Eating.58860488.cdf", np.zeros((9, 96)))
    (root / "S9" / "Videos" / "Eating.58860488.mp4").write_bytes(b"something")
    assert main(["--root", str(root), "--check"]) == 0
    text = capsys.readouterr().out
    # Whatever is there of a scene tells what else there should be, from all cameras.
    assert "valid 3D poses  2 of 239 (S9 2 of 120, no Eating.54138969.cdf and 5 more; none of S11)" in text
    assert "valid videos    1 of 239 (S9 1 of 120, no Eating.54138969.mp4 and 6 more; none of S11)" in text
    assert "valid boxes     1 of 239 (S9 1 of 120, no Eating.54138969.mat and 6 more; none of S11)" in text
    assert "missing     train videos    0 of 600" in text


def test_check_of_all_and_of_all_but_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for subject in ("S1", "S5", "S6", "S7", "S8", "S9", "S11"):
        for number in range(30):
            for camera in ("54138969", "55011271", "58860488", "60457274"):
                action = f"{'ABCDEFGHIJKLMNO'[number // 2]}{'' if number % 2 else ' 1'}"
                action = "Directions" if (subject, number) == ("S11", 1) else action
                for folder, suffix in (
                    ("MyPoseFeatures/D3_Positions_mono", "cdf"), ("Videos", "mp4"),
                    ("MySegmentsMat/ground_truth_bb", "mat"),
                ):  # fmt: skip
                    path = tmp_path / subject / folder / f"{action}.{camera}.{suffix}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(b"x")
    assert main(["--root", str(tmp_path), "--check"]) == 0
    text = capsys.readouterr().out
    assert "found       train 3D poses  600 of 600" in text and "found       valid videos    239 of 239" in text
    assert f"complete: writes {600 + 239 + 60} pieces" in text
    assert Counter(piece.split for piece in Human36M().pieces(tmp_path, None)) == {
        "train": 5 * 30 * 4,
        "valid_protocol1": 2 * 30 * 4 - 1,
        "valid_protocol2": 2 * 30,
    }
    for folder, suffix, words in (
        ("MyPoseFeatures/D3_Positions_mono", "cdf", "valid 3D poses  238 of 239 (S9 119 of 120, no A.55011271.cdf)"),
        ("Videos", "mp4", "valid videos    238 of 239 (S9 119 of 120, no A.55011271.mp4)"),
        ("MySegmentsMat/ground_truth_bb", "mat", "valid boxes     238 of 239 (S9 119 of 120, no A.55011271.mat)"),
    ):
        path = tmp_path / "S9" / folder / f"A.55011271.{suffix}"
        path.unlink()
        assert main(["--root", str(tmp_path), "--check"]) == 0
        told = capsys.readouterr().out
        assert f"incomplete  {words}" in told and told.count("incomplete") == 1
        path.touch()
        assert main(["--root", str(tmp_path), "--check"]) == 0
        assert f"incomplete  {words}" in capsys.readouterr().out  # empty files do not count
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("MyPoseFeatures/D3_Positions_mono/Walking 1.60457274.cdf", "no readable CDF file of poses"),
        ("MyPoseFeatures/D2_Positions/Walking 1.60457274.cdf", "no readable CDF file of poses"),
        ("MySegmentsMat/ground_truth_bb/Walking 1.60457274.mat", "no readable MATLAB file"),
    ],
)
def test_wrong_files_are_one_clear_line(
    small: tuple[Path, H36mVideo], tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, words: str
) -> None:
    (small[0] / "S9" / path).write_bytes(b"something else" * 100)
    assert run_command(lambda: _prepare(small[0], tmp_path / "out", "--splits", "valid_protocol1")) == 2
    error = capsys.readouterr().err
    assert words in error and Path(path).name in error and error.count("\n") == 1


def test_poses_of_another_kind_are_refused(small: tuple[Path, H36mVideo], tmp_path: Path) -> None:
    folder = small[0] / "S9" / "MyPoseFeatures"
    write_poses(folder / "D2_Positions" / "Walking 1.60457274.cdf", np.zeros((5, 64)))
    with pytest.raises(UserError, match="has 5 frames, the 3D poses 12"):
        _prepare_small(small[0], tmp_path / "out")
    write_poses(folder / "D3_Positions_mono" / "Walking 1.60457274.cdf", np.zeros((5, 78)))
    with pytest.raises(UserError, match=r"Pose has shape \(1, 5, 78\), expected \(1, N, 96\)"):
        _prepare_small(small[0], tmp_path / "out")
    write_poses(folder / "D3_Positions_mono" / "Walking 1.60457274.cdf", np.full((5, 96), np.nan))
    with pytest.raises(UserError, match="not finite"):
        _prepare_small(small[0], tmp_path / "out")
