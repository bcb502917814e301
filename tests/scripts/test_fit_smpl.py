"""Fitting to the keypoints of photos from the command line, and what the results say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from diffhmr.fitting.prior import load_prior
from diffhmr.inference.annotations import keypoints_from_rows
from diffhmr.inference.fitting import FitOptions, fit_people, fittable, spin49_keypoints
from diffhmr.inference.people import PersonInput
from diffhmr.inference.result import load_result
from scripts import fit_smpl
from tests.inference.example_people import coco_file, perfect, striped_photo, true_body

SAMPLES = Path(__file__).parents[2] / "data/samples"
PHOTO, LABELS = SAMPLES / "photographer.jpg", SAMPLES / "photographer.json"


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["fit_smpl", *map(str, words)])
    return run_command(fit_smpl.main)


@pytest.mark.parametrize("start", ["model", "mean"])
def test_a_real_photo(
    tmp_path: Path,
    free_body: BodyModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    start: str,
) -> None:
    words = ["--image", PHOTO, "--keypoints", LABELS, "--init", start, "--mesh", "obj"]
    assert call(monkeypatch, *words, "--out", tmp_path) == 0
    text = capsys.readouterr().out
    assert "free body, not SMPL" in text and "% of the box off its 11 keypoints" in text
    folder = tmp_path / "photographer"
    written = {path.name for path in folder.iterdir()}
    assert written == {"people_overlay.png", "person0.json", "person0.npz", "person0_answer.obj", "person0_overlay.png"}
    result = load_result(folder / "person0.npz")
    assert len(result) == 1 and result.vertices(free_body).shape == (1, free_body.num_vertices, 3)
    assert result.metadata["reprojection"]["answer"]["share_of_box"] < {"model": 0.03, "mean": 0.06}[start]
    fit = json.loads((folder / "person0.json").read_text())["fit"]
    assert fit["method"] == "SMPLify" and fit["start"].startswith({"model": "single", "mean": "mean"}[start])
    # Upright, and whole: the head above the pelvis in the picture.
    assert result.joints_smpl24[0, 15, 1] < result.joints_smpl24[0, 0, 1]


def test_options_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_body_path: Path) -> None:
    np.savez(tmp_path / "prior.npz", means=np.zeros((1, 69)), covars=0.1 * np.eye(69)[None], weights=np.ones(1))
    words = ["--image", PHOTO, "--keypoints", LABELS, "--init", "mean", "--iterations", 5, "--focal-px", 900]
    words += ["--prior", tmp_path / "prior.npz", "--body", toy_body_path, "--out", tmp_path]
    assert call(monkeypatch, *words) == 0
    metadata = load_result(tmp_path / "photographer/person0.json").metadata
    assert metadata["fit"]["iterations_per_stage"] == 5 and metadata["fit"]["prior"].endswith("prior.npz")
    assert metadata["camera"]["focal_px"] == 900 and metadata["body"]["name"] == "toy body, not SMPL"


def test_the_fit_lies_where_the_body_is(tmp_path: Path, free_body: BodyModel) -> None:
    """Begun at the truth, people before a known camera come back in their places, in order and one by one."""
    photo = striped_photo(tmp_path / "photo.png", 640, 480)
    truths = [true_body(free_body, photo, 700.0, seed) for seed in (1, 2, 3)]
    people = [truth.person for truth in truths]
    options = FitOptions(focal_px=700.0, max_batch=2)
    prior = load_prior()
    results = fit_people(people, free_body, prior, perfect(free_body, truths), options)
    for truth, result in zip(truths, results, strict=True):
        assert result.metadata["reprojection"]["answer"]["share_of_box"] < 0.03
        true_joints = free_body.joints(truth.params, SPIN49)
        distance = (free_body.joints(result.params, SPIN49)[0] - true_joints).norm(dim=-1)
        assert distance.mean() < 0.25  # the depth included
    alone = fit_people(people[2:], free_body, prior, perfect(free_body, truths), options)
    torch.testing.assert_close(alone[0].params.body_pose, results[2].params.body_pose, atol=5e-3, rtol=0)


def test_keypoints_outside_the_crop_count(tmp_path: Path) -> None:
    photo = striped_photo(tmp_path / "photo.png", 200, 200)
    rows = np.zeros((17, 2))
    rows[:3] = [[99.5, 99.5], [149.5, 99.5], [180.0, 99.5]]
    keypoints = keypoints_from_rows(rows, np.array([1.0, 0.5, 1.0, *[0.0] * 14]))
    person = PersonInput(photo, 0, (50.0, 50.0, 150.0, 150.0), "test", keypoints)
    given = spin49_keypoints(person)
    nose, left_eye, right_eye = 0, 16, 15  # in the order of OpenPose
    torch.testing.assert_close(given[nose], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(given[left_eye], torch.tensor([50 / 60, 0.0, 0.5]))
    assert given[right_eye, 0] > 1 and int((given != 0).any(-1).sum()) == 3


def test_people_with_few_keypoints_are_left_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    striped_photo(tmp_path / "photo.png", 200, 200)
    seen = [[20 + 10 * index, 30 + 5 * index, 2 if index < 5 else 0] for index in range(17)]
    box: dict[str, object] = {"bbox": [10, 10, 150, 150], "keypoints": [value for point in seen for value in point]}
    coco_file(tmp_path / "few.json", {"photo.png": [box]})
    words = ["--image", tmp_path / "photo.png", "--keypoints", tmp_path / "few.json", "--init", "mean"]
    assert call(monkeypatch, *words, "--out", tmp_path / "out") == 2
    assert "enough keypoints" in capsys.readouterr().err
    assert "5 keypoints besides the hips, at least 6" in caplog.text
    assert fittable([]) == []


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    needed = ["--image", PHOTO, "--keypoints", LABELS, "--out", tmp_path]
    cases = {
        "--iterations is 0": [*needed, "--iterations", 0],
        "--focal-px is -1": [*needed, "--focal-px", "-1"],
        "pose prior not found": [*needed, "--prior", tmp_path / "none.pkl"],
        "none.json": ["--image", PHOTO, "--keypoints", tmp_path / "none.json", "--out", tmp_path],
        "--init": [*needed, "--init", "nothing"],
    }
    for message, words in cases.items():
        assert call(monkeypatch, *words) == 2
        assert message in capsys.readouterr().err, message
    with pytest.raises(UserError, match="max_batch"):
        FitOptions(max_batch=0)
