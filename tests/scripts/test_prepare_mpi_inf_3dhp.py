"""MPI-INF-3DHP from a miniature release: what comes out is what was put in."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from diffhmr.body.model import BodyModel
from diffhmr.command_line import run_command
from diffhmr.datasets.labels import read_labels
from diffhmr.errors import UserError
from scripts.preparation.mpi_inf import ACTIVITIES, NUM_FRAMES, VALID_FRAMES
from scripts.prepare_mpi_inf_3dhp import main
from tests.releases.captured_people import number_in, write_video
from tests.releases.mpi_inf_3dhp import CUT, INVALID, OUTSIDE, SLOTS, TEST_FRAMES, MpiInfTruth, write_mpi_inf_3dhp

COLUMNS = [25 + slot for slot in SLOTS]
CHOSEN = [frame for frame in range(23) if frame != OUTSIDE][::10]
Release = tuple[Path, MpiInfTruth]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, free_body: BodyModel) -> Release:
    root = tmp_path_factory.mktemp("mpi_inf") / "raw"
    return root, write_mpi_inf_3dhp(root, free_body)


@pytest.fixture(scope="module")
def prepared(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mpi_inf") / "out"
    assert _prepare(release[0], out) == 0
    return out


@pytest.fixture
def small(tmp_path: Path, free_body: BodyModel) -> Release:
    """A release of one video, to be damaged."""
    root = tmp_path / "raw"
    return root, write_mpi_inf_3dhp(root, free_body, people=13, sequences=[("S2", "Seq1")], cameras=[4])


def _prepare(root: Path, out: Path, *words: str) -> int:
    return main(["--root", str(root), "--out", str(out), "--partial", *words])


def test_training_labels_are_those_of_the_release(release: Release, prepared: Path) -> None:
    truth = release[1]
    labels = read_labels(prepared / "train.npz")
    rows = [(*view, frame) for view in truth.train for frame in CHOSEN]
    assert list(labels.imgname) == [
        f"{subject}/{sequence}/imageFrames/video_{camera}/frame_{frame + 1:06d}.jpg"
        for subject, sequence, camera, frame in rows
    ]
    for row, (subject, sequence, camera, frame) in enumerate(rows):
        people = truth.train[subject, sequence, camera]
        points = people.pixels[frame, list(SLOTS)]
        np.testing.assert_allclose(labels.keypoints[row, COLUMNS, :2], points, atol=1e-3)
        np.testing.assert_allclose(
            labels.joints3d[row, COLUMNS, :3], truth.universal(people)[frame, list(SLOTS)], atol=2e-6
        )
        assert (labels.keypoints[row, COLUMNS, 2] == 1).all() and (labels.joints3d[row, COLUMNS, 3] == 1).all()
        assert not np.delete(labels.joints3d[row], COLUMNS, axis=0).any()
        np.testing.assert_allclose(labels.center[row], (points.min(0) + points.max(0)) / 2, atol=1e-3)
        np.testing.assert_allclose(labels.side[row], 1.2 * np.ptp(points, axis=0).max(), rtol=1e-5)
        extra = [labels.extra[name][row] for name in ("subject", "sequence", "camera", "frame")]
        assert extra == [subject, f"{subject}_{sequence}", str(camera), frame]
    assert (labels.extra["image_size"] == 2048).all()
    assert labels.meta["counts"] == {
        "labelled frames with joints outside the picture": len(truth.train),
        "labelled frames without picture": 0,
    }
    assert not labels.has_smpl.any()


def test_pictures_show_the_frames_that_the_labels_name(prepared: Path) -> None:
    labels = read_labels(prepared / "train.npz")
    for name, frame in zip(labels.imgname, labels.extra["frame"], strict=True):
        assert number_in(prepared / "images" / str(name)) == frame


def test_test_labels_are_those_of_the_release(release: Release, prepared: Path) -> None:
    root, truth = release
    labels = read_labels(prepared / "valid.npz")
    frames = [frame for frame in range(TEST_FRAMES) if frame != INVALID]
    rows = [(name, frame) for name in truth.test for frame in frames]
    assert list(labels.imgname) == [
        f"mpi_inf_3dhp_test_set/{name}/imageSequence/img_{frame + 1:06d}.jpg" for name, frame in rows
    ]
    assert labels.meta["images"] == str(root.resolve())
    for row, (name, frame) in enumerate(rows):
        people = truth.test[name]
        np.testing.assert_allclose(labels.keypoints[row, COLUMNS, :2], people.pixels[frame, list(SLOTS)], atol=1e-3)
        np.testing.assert_allclose(
            labels.joints3d[row, COLUMNS, :3], truth.universal(people)[frame, list(SLOTS)], atol=2e-6
        )
        assert labels.extra["action"][row] == ACTIVITIES[frame]
        assert labels.extra["valid"][row] == (frame != CUT)
        assert tuple(labels.extra["image_size"][row]) == people.size
        assert number_in(root / str(labels.imgname[row])) == frame
    assert labels.meta["counts"]["frames with joints outside the picture"] == len(truth.test)


def test_extracted_pictures_are_used_in_order(release: Release, prepared: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    expected = read_labels(prepared / "train.npz")
    for base in (1, 0):  # names count from 1, or from 0
        shutil.rmtree(root, ignore_errors=True)
        for subject, sequence, camera in release[1].train:
            below = Path(subject, sequence)
            folder = root / below / "imageFrames" / f"video_{camera}"
            folder.mkdir(parents=True)
            shutil.copy(release[0] / below / "annot.mat", root / below)
            for frame in reversed(range(23)):
                (folder / f"frame_{frame + base:06d}.jpg").touch()
        assert _prepare(root, tmp_path / f"out{base}", "--splits", "train") == 0
        labels = read_labels(tmp_path / f"out{base}" / "train.npz")
        np.testing.assert_array_equal(labels.keypoints, expected.keypoints)
        np.testing.assert_array_equal(labels.extra["frame"], expected.extra["frame"])
        assert labels.meta["images"] == str(root)
        numbers = [int(str(name)[-10:-4]) for name in labels.imgname]
        assert numbers == [frame + base for frame in labels.extra["frame"]]
        assert not (tmp_path / f"out{base}" / "images").exists()


def test_frames_without_picture_are_left_out(small: Release, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, truth = small
    people = truth.train["S2", "Seq1", 4]
    first = type(people)(people.pose[:9], people.betas[:9], people.joints[:9], people.pixels[:9], people.size)
    write_video(root / "S2" / "Seq1" / "imageSequence" / "video_4.avi", first, "MJPG", 25)
    assert _prepare(root, tmp_path / "out", "--splits", "train") == 0
    labels = read_labels(tmp_path / "out" / "train.npz")
    assert list(labels.extra["frame"]) == [0]
    assert labels.meta["counts"]["labelled frames without picture"] == 4
    assert "video_4.avi has 9 of 13 labelled frames" in caplog.text
    (root / "mpi_inf_3dhp_test_set" / "TS1" / "imageSequence" / "img_000001.jpg").unlink()
    assert _prepare(root, tmp_path / "out", "--splits", "valid") == 0
    labels = read_labels(tmp_path / "out" / "valid.npz")
    assert list(labels.extra["frame"]) == [2, 3, 4, 0, 2, 3, 4]
    assert labels.meta["counts"]["frames without picture"] == 1


def test_fits_say_which_frames_and_how_people_stand(small: Release, tmp_path: Path) -> None:
    root, truth = small
    people = truth.train["S2", "Seq1", 4]
    frames = [7, 2, 11]
    names = np.array([f"S2/Seq1/imageFrames/video_4/frame_{frame + 1:06d}.jpg" for frame in frames])
    boxes = {"imgname": names, "center": np.full((3, 2), 900.0), "scale": np.full(3, 4.0)}
    known = np.array([1, 1, 0])
    fits = {"pose": people.pose[frames], "shape": people.betas[frames], "has_smpl": known}
    np.savez(tmp_path / "named.npz", **boxes, **fits)  # type: ignore[arg-type]
    np.savez(tmp_path / "names.npz", **boxes)  # type: ignore[arg-type]
    np.savez(tmp_path / "nameless.npz", **fits)  # type: ignore[arg-type]
    both = ["--fits", str(tmp_path / "nameless.npz"), "--fits-names", str(tmp_path / "names.npz")]
    for number, words in enumerate((["--fits", str(tmp_path / "named.npz")], both)):
        out = tmp_path / f"out{number}"
        assert _prepare(root, out, "--splits", "train", *words) == 0
        labels = read_labels(out / "train.npz")
        assert list(labels.extra["frame"]) == [2, 7, 11]
        assert list(labels.has_smpl) == [True, True, False]
        np.testing.assert_allclose(labels.pose[:2], people.pose[[2, 7]], rtol=1e-5)
        np.testing.assert_allclose(labels.betas[:2], people.betas[[2, 7]], rtol=1e-5)
        for name, frame in zip(labels.imgname, (2, 7, 11), strict=True):
            assert number_in(out / "images" / str(name)) == frame


def test_wrong_fits_are_refused_before_anything_is_done(small: Release, tmp_path: Path) -> None:
    def save(name: str, imgname: str, count: int) -> str:
        path = tmp_path / name
        np.savez(
            path, imgname=np.array([imgname] * count), center=np.full((count, 2), 900.0), scale=np.full(count, 4.0),
            pose=np.zeros((count, 72)), shape=np.zeros((count, 10)),
        )  # fmt: skip
        return str(path)

    other = save("other.npz", "images/a.jpg", 2)
    two = save("two.npz", "S1/Seq1/imageFrames/video_0/frame_000001.jpg", 2)
    three = save("three.npz", "S1/Seq1/imageFrames/video_0/frame_000001.jpg", 3)
    with pytest.raises(UserError, match="names no pictures like S1/Seq1"):
        _prepare(small[0], tmp_path / "out", "--fits", other)
    with pytest.raises(UserError, match="they do not belong together"):
        _prepare(small[0], tmp_path / "out", "--fits", two, "--fits-names", three)
    with pytest.raises(UserError, match="--fits-names goes with --fits"):
        _prepare(small[0], tmp_path / "out", "--fits-names", two)
    assert not (tmp_path / "out").exists()


def test_check_says_what_to_get_on_a_machine_that_has_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(lambda: main(["--root", str(tmp_path / "raw"), "--check"])) == 0
    text = capsys.readouterr().out
    for words in (
        "train labels    0 of 16", "train videos    0 of 128", "valid labels    0 of 6", "valid pictures  0 of 2929",
        "https://vcai.mpi-inf.mpg.de/3dhp-dataset", "get_dataset.sh", "get_testset.sh",
    ):  # fmt: skip
        assert words in text
    assert run_command(lambda: main(["--root", str(tmp_path / "raw"), "--out", str(tmp_path / "out")])) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: mpi_inf_3dhp: train labels missing") and error.count("\n") == 1


def test_check_names_what_is_missing(small: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, _ = small
    shutil.rmtree(root / "mpi_inf_3dhp_test_set" / "TS5" / "imageSequence")
    assert main(["--root", str(root), "--check"]) == 0
    text = capsys.readouterr().out
    assert (
        "incomplete  train videos    1 of 128 (S2 Seq1 1 of 8, no video_0.avi and 6 more; none of S1 Seq1, S1 Seq2"
        in text
    )
    assert "incomplete  valid pictures  4 of 2929 (TS1 4 of 603; none of TS2, TS3, TS4, TS5, TS6)" in text
    for subject, sequence in NUM_FRAMES:
        for camera in (0, 1, 2, 4, 5, 6, 7, 8):
            folder = tmp_path / "files" / subject / sequence / "imageFrames" / f"video_{camera}"
            folder.mkdir(parents=True)
    (folder / "frame_000001.jpg").touch()
    assert main(["--root", str(tmp_path / "files"), "--check"]) == 0
    text = capsys.readouterr().out
    assert "incomplete  train pictures  0 of 128 folders of frames (S1 Seq1 video_0 0 of 6416; " in text


def test_a_shortened_release_asks_for_its_own_space(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=200_000_000))
    assert _prepare(release[0], tmp_path / "out") == 0


def test_the_official_counts_add_up() -> None:
    assert sum(VALID_FRAMES.values()) == 2929
    assert len(NUM_FRAMES) == 16


def test_wrong_files_are_one_clear_line(small: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, _ = small
    train, test = root / "S2" / "Seq1" / "annot.mat", root / "mpi_inf_3dhp_test_set" / "TS1" / "annot_data.mat"

    def says(split: str, words: str) -> bool:
        code = run_command(lambda: _prepare(root, tmp_path / "out", "--splits", split))
        error = capsys.readouterr().err
        return code == 2 and error.count("\n") == 1 and words in error

    good = train.read_bytes()
    train.write_bytes(b"something else" * 100)
    assert says("train", f"{train} is no readable MATLAB file")
    content = scipy.io.loadmat(tmp_path / "good.mat") if (tmp_path / "good.mat").write_bytes(good) else {}
    cells = {name: content[name] for name in ("annot2", "univ_annot3")}
    scipy.io.savemat(train, {"annot2": cells["annot2"]})
    assert says("train", "has no variable univ_annot3")
    scipy.io.savemat(train, {**cells, "annot2": cells["univ_annot3"]})
    assert says("train", "annot2 has cells of shape (13, 84), expected (N, 56)")
    scipy.io.savemat(train, {**cells, "annot2": cells["annot2"][:3]})
    assert says("train", "annot2 has 3 cameras")
    with h5py.File(test, "r+") as file:
        short = file["annot2"][:3]
        del file["annot2"]
        file["annot2"] = short
    assert says("valid", "annot2 has shape (2, 17, 1, 3), expected (2, 17, 1, 5)")
    test.write_bytes(b"something else" * 100)
    assert says("valid", f"{test} is no readable MATLAB file")
