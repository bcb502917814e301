from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffhmr.body.model import BodyModel
from diffhmr.command_line import run_command
from diffhmr.motion.bvh import write_bvh
from diffhmr.motion.joint_names import ROLES
from diffhmr.motion.rest_body import RestBody, rest_body
from diffhmr.motion.sequence import load_motion
from scripts import import_motion
from tests.motion.rigs import INDEX, squats, write_acclaim


@pytest.fixture(scope="module")
def rest(free_body: BodyModel) -> RestBody:
    return rest_body(free_body)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["import_motion", *(str(argument) for argument in arguments)])
    return run_command(import_motion.main)


@pytest.fixture
def recordings(tmp_path: Path, rest: RestBody) -> Path:
    """A folder with one recording of each kind."""
    folder = tmp_path / "raw"
    motion = squats(rest)
    write_bvh(folder / "a" / "squats.bvh", motion, rest.joints, scale=100.0)
    write_acclaim(folder / "cmu" / "07", rest, [0.0] * 4 + [30.0] * 4, [0.0] * 8)
    motion.save(folder / "amass" / "squats_poses.npz")
    np.savez(folder / "amass" / "shape.npz", betas=np.zeros(16))
    return folder


def test_every_format_becomes_a_motion(
    recordings: Path,
    tmp_path: Path,
    rest: RestBody,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, sheet = tmp_path / "motion", tmp_path / "sheet.png"
    assert run(monkeypatch, "--input", recordings, "--out", out, "--fps", "15", "--sheet", sheet) == 0
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.npz"))
    assert written == ["a/squats.npz", "amass/squats_poses.npz", "cmu/07/07_01.npz"]
    truth = squats(rest).resample(15.0)
    for name in ("a/squats.npz", "amass/squats_poses.npz"):
        motion = load_motion(out / name)
        assert motion.fps == 15
        np.testing.assert_allclose(motion.joints(rest.joints), truth.joints(rest.joints), atol=2e-3)
    knee = load_motion(out / "cmu/07/07_01.npz")
    assert len(knee) == 1  # 8 frames at 120 per second
    text = capsys.readouterr().out
    assert "3 of 3 recordings" in text and "zero pose" in text and "07_01.amc" in text
    picture = cv2.imread(str(sheet))
    assert picture.shape[0] > 3 * 180 and (picture < 100).any()


def test_a_bad_file_is_named_at_the_end_and_stops_nothing(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (recordings / "a" / "squats.bvh").read_text()
    (recordings / "a" / "cut.bvh").write_text(text[: len(text) * 2 // 3])
    assert run(monkeypatch, "--input", recordings, "--out", tmp_path / "motion") == 2
    captured = capsys.readouterr()
    assert "3 of 4 recordings" in captured.out and "cut off" in captured.out
    assert captured.err.count("\n") == 1 and "cut.bvh" in captured.err
    assert len(list((tmp_path / "motion").rglob("*.npz"))) == 3


def test_a_single_file_with_a_mapping(
    recordings: Path,
    tmp_path: Path,
    rest: RestBody,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (recordings / "a" / "squats.bvh").read_text()
    for name in INDEX:
        text = text.replace(f" {name}\n", f" bone{INDEX[name]}\n")
    strange = tmp_path / "strange.bvh"
    strange.write_text(text)
    assert run(monkeypatch, "--input", strange, "--out", tmp_path / "one") == 2
    assert "--mapping" in capsys.readouterr().out
    names = [name for name in INDEX if name in ROLES]
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("".join(f"{name}: bone{INDEX[name]}\n" for name in names))
    assert run(monkeypatch, "--input", strange, "--out", tmp_path / "one", "--mapping", mapping) == 0
    motion = load_motion(tmp_path / "one" / "strange.npz")
    truth = squats(rest)
    limbs = [INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("hip", "knee", "shoulder", "elbow")]
    np.testing.assert_allclose(motion.global_rotations()[:, limbs], truth.global_rotations()[:, limbs], atol=5e-3)


def test_two_formats_of_one_recording_stay_two_files(tmp_path: Path, rest: RestBody) -> None:
    write_bvh(tmp_path / "raw" / "take.bvh", squats(rest), rest.joints)
    squats(rest).save(tmp_path / "raw" / "take.npz")
    targets = [target.name for _, target in import_motion.plan(tmp_path / "raw", tmp_path / "out")]
    assert targets == ["take_bvh.npz", "take_npz.npz"]


def test_no_recording_is_written_over_another(tmp_path: Path, rest: RestBody) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_bvh(raw / "take.bvh", squats(rest), rest.joints)
    if (raw / "TAKE.bvh").exists():
        pytest.skip("capitals do not count in file names here")
    for name in ("take.BVH", "Take.bvh", "take_bvh.bvh", "other/take.bvh"):
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).write_bytes((raw / "take.bvh").read_bytes())
    squats(rest).save(raw / "take.npz")
    squats(rest).save(raw / "take_npz.npz")
    targets = {source.relative_to(raw).as_posix(): target.relative_to(out).as_posix()
               for source, target in import_motion.plan(raw, out)}  # fmt: skip
    assert targets == {
        "Take.bvh": "Take_bvh-2.npz",
        "other/take.bvh": "other/take.npz",
        "take.BVH": "take_bvh-3.npz",
        "take.bvh": "take_bvh-4.npz",
        "take.npz": "take_npz-2.npz",
        "take_bvh.bvh": "take_bvh.npz",
        "take_npz.npz": "take_npz.npz",
    }
    assert len({target.casefold() for target in targets.values()}) == len(targets)


def test_a_folder_in_the_place_of_a_file_stops_nothing(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "motion" / "a" / "squats.npz").mkdir(parents=True)
    assert run(monkeypatch, "--input", recordings, "--out", tmp_path / "motion") == 2
    captured = capsys.readouterr()
    assert "it is a folder" in captured.out and "2 of 3 recordings" in captured.out
    assert captured.err.count("\n") == 1 and "squats.bvh" in captured.err
    assert (tmp_path / "motion" / "cmu" / "07" / "07_01.npz").is_file()


def test_the_frame_rate_of_amc_files(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 frames at 8 per second last 7/8 s, 27 frames at 30 per second; the bend of the knee is in their middle."""
    arguments = ("--input", recordings / "cmu", "--out", tmp_path / "motion", "--amc-fps", "8")
    assert run(monkeypatch, *arguments) == 0
    knee = load_motion(tmp_path / "motion" / "07" / "07_01.npz")
    assert len(knee) == 27 and knee.fps == 30
    bend = np.arccos((np.trace(knee.rotations[:, INDEX["left_knee"]], axis1=-2, axis2=-1) - 1).clip(-2, 2) / 2)
    assert bend[0] < 1e-3 and bend[-1] == pytest.approx(np.deg2rad(30), abs=1e-3)
    assert 0.1 < bend[13] < 0.5


def test_the_axis_that_is_said_to_be_up(
    recordings: Path, tmp_path: Path, rest: RestBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who stands along y of a file whose z is said to be up lies on the floor."""
    for up, standing in (("auto", True), ("y", True), ("z", False)):
        assert run(monkeypatch, "--input", recordings / "a", "--out", tmp_path / up, "--up", up) == 0
        joints = load_motion(tmp_path / up / "squats.npz").joints(rest.joints)
        rise = joints[0, INDEX["head"], 1] - joints[0, INDEX["left_ankle"], 1]
        assert (rise > 1.2) if standing else (abs(rise) < 0.4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "nowhere"), "does not exist"),
        (("--input", "{raw}", "--out", "{raw}/out"), "outside"),
        (("--input", "{raw}/amass/squats_poses.npz", "--out", "{raw}/amass"), "overwritten"),
        (("--input", "{raw}/cmu/07/07.asf"), "no recording"),
        (("--input", "{raw}", "--fps", "0"), "--fps is 0.0: give 1 to 1000"),
        (("--input", "{raw}", "--amc-fps", "nan"), "--amc-fps"),
        (("--input", "{raw}/a", "--amc-fps", "60"), "--amc-fps is for .amc files"),
        (("--input", "{raw}/amass", "--up", "z"), "--up is for .amc and .bvh files"),
        (("--input", "{raw}/amass", "--mapping", "a.yaml"), "--mapping is for .amc and .bvh files"),
        (("--input", "{raw}", "--sheet", "sheet.jpg"), ".png"),
        (("--input", "{raw}/empty"), "holds no"),
    ],
)
def test_wrong_options_get_one_line(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    (recordings / "empty").mkdir()
    words = [word.replace("{raw}", str(recordings)) for word in arguments]
    if "--out" not in words:
        words += ["--out", str(tmp_path / "out")]
    assert run(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
