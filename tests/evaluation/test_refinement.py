"""Evaluation of models that refine: what they are given reaches them, and is measured beside them."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch, ClipPrediction
from diffhmr.command_line import run_command
from diffhmr.config import SamplerConfig
from diffhmr.config_clips import ClipDataConfig
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.data import ClipSource, SequenceSet, open_clips
from diffhmr.evaluation.clips.evaluate import evaluate_clips
from diffhmr.evaluation.clips.measures import SequenceMeasurer
from diffhmr.evaluation.clips.predictors import Given, OfClips
from diffhmr.evaluation.run import EvaluationOptions
from diffhmr.evaluation.truth import Bodies
from tests.evaluation.moving_people import HAND_M, ON_TREE, WRIST_M, bend, chord, sequence
from tests.evaluation.small_clip_models import save_small_clip_model, small_clip_config
from tests.releases.motionbert import mesh_frames, write_splits

ROOT = Path(__file__).parents[2]
eval_script = importlib.import_module("eval")


class Believer:
    """Answers with what it is given."""

    deterministic = True

    def sample(self, batch: ClipBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> ClipPrediction:  # noqa: ARG002
        assert batch.initial is not None and batch.targets is None
        params = batch.initial.map(lambda value: value.unsqueeze(1).expand(-1, num_samples, *value.shape[1:]))
        return ClipPrediction(params, deterministic=True)


def _bent(frames: int, name: str, angle: float) -> Any:
    one = sequence(frames, name)
    params = SmplParams.from_rotations(one.rotations, one.betas.expand(frames, -1))
    return replace(one, initial=bend(params.map(lambda value: value[None, None]), torch.tensor(angle)).map(
        lambda value: value[0, 0]
    ))  # fmt: skip


def test_what_is_given_is_measured_beside(toy_body: BodyModel) -> None:
    """The elbow of the given parameters is bent: wrist and hand are off by a chord."""
    clips = SequenceSet([_bent(6, "a", 0.3), _bent(9, "b", 0.3)])
    measurer = SequenceMeasurer(ON_TREE, Bodies(toy_body, {}), (1,))
    options = EvaluationOptions()
    found = evaluate_clips(OfClips(Believer(), SamplerConfig()), clips, measurer, options, baseline=Given())
    assert found.baseline == found.metrics
    joints = 1000 * chord(0.3) * (WRIST_M + HAND_M) / 24
    assert found.metrics["mpjpe_mm"]["mode"] == pytest.approx(joints, rel=1e-4)
    assert evaluate_clips(Given(), clips, measurer, options).baseline is None
    with pytest.raises(UserError, match="no parameters to be refined"):
        Given()(SequenceSet([sequence(5)]).take([0]), 1, 0)


def test_synthetic_sequences_bring_them_if_asked(free_body: BodyModel) -> None:
    source = ClipSource("synthetic-motion")
    plain, about = open_clips(source, free_body)
    given, more = open_clips(source, free_body, initial=True)
    one, two = plain.take([0]).batch, given.take([0]).batch
    assert one.initial is None and two.initial is not None and torch.equal(one.keypoints, two.keypoints)
    assert more == {**about, "initial": "the truth, disturbed as by a model of pictures"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("refine")
    config = small_clip_config("paper")
    model = config.model.model_copy(update={"refine": True})
    config = config.model_copy(update={"model": model, "data": ClipDataConfig(initial=True)})
    save_small_clip_model(path / "refine.st", config)
    for name, refine in (("with", True), ("without", False)):
        frames = mesh_frames({"a": 20, "b": 17}, np.random.default_rng(0), refine=refine)
        write_splits(path / f"{name}.pkl", frames, frames)
    return path


def _run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, words)])
    return run_command(eval_script.main)


def test_eval_shows_what_there_was_to_refine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--checkpoint", folder / "refine.st", "--dataset", "3dpw-video", "--protocol"]
    words += ["3dpw-video-neutral17-free-body", "--device", "cpu", "--out", tmp_path / "r.json", "--data"]
    for flip in ([], ["--flip"]):
        assert _run(monkeypatch, *words, folder / "with.pkl", *flip) == 0
        result = json.loads((tmp_path / "r.json").read_text())
        assert result["model"] == "paper, refining" and result["num_frames"] == 37
        assert "pred_smpl_pose" in result["protocol"]["people"]["initial"]
        given = result["initial_metrics"]["mpjpe_mm"]["mode"]
        # A new model hardly corrects.
        assert result["metrics"]["mpjpe_mm"]["mode"] == pytest.approx(given, rel=0.1) and given > 20
        lines = capsys.readouterr().out.splitlines()
        (error,) = [line.split() for line in lines if line.startswith("MPJPE mm")]
        assert error[2:] == [f"{result['metrics']['mpjpe_mm']['mode']:.1f}", f"{given:.1f}"]
        assert any(line.split() == ["error", "error", "initial"] for line in lines)
        assert any(line.split() == ["motion", "value", "initial", "truth"] for line in lines)
    assert _run(monkeypatch, *words, folder / "without.pkl") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "without.pkl has no parameters to be refined" in message
