"""Fits in the training loop: frames, who is supervised by what, fits that only get better, killed and resumed runs."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Prediction, Targets
from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import load_body, load_state
from diffhmr.config import ExperimentConfig, SamplerConfig
from diffhmr.config_file import config_from_dict, dump_config
from diffhmr.datasets.augment import draw_augmentation
from diffhmr.datasets.labels import write_labels
from diffhmr.datasets.mixture import Mixture
from diffhmr.errors import UserError
from diffhmr.fitting.fits import fit_values
from diffhmr.geometry.camera import project_crop
from diffhmr.models import HmrModel
from diffhmr.training.dry_run import dry_run
from diffhmr.training.fits import FitSupervision
from diffhmr.training.loop import Trainer, run
from diffhmr.training.people_task import PeopleTask
from diffhmr.training.processes import Processes
from tests.datasets.labelled_samples import Sample, write_sample
from tests.training.runs import Killed, assert_same_weights, make_config, make_trainer, run_until

ROOT = Path(__file__).parents[2]
ALONE = Processes(0, 1, torch.device("cpu"))
COUNT = 20


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("data/body/free_body.npz")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> Sample:
    """20 people; rows 0, 4, 8 ... have no SMPL parameters, rows 0, 5, 10 and 15 no 2D labels."""
    return write_sample(tmp_path_factory.mktemp("people"), body, COUNT)


def without_smpl(sample: Sample, folder: Path) -> Path:
    """The same label file, but no SMPL parameters in it."""
    rows = {name: array for name, array in sample.rows.items() if name not in ("pose", "shape", "has_smpl")}
    path = folder / "two_d.npz"
    write_labels(path, rows, {"dataset": "sample", "split": "train"})
    return path


def fit_config(folder: Path, sample: Sample, fitting: dict[str, Any], **sections: dict[str, Any]) -> ExperimentConfig:
    """A run on ``sample`` and on the same people without parameters, called ``known`` and ``plain``."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [
        {"name": "known", "labels": str(sample.labels), "images": str(sample.images), "weight": 0.5},
        {"name": "plain", "labels": str(without_smpl(sample, folder)), "images": str(sample.images)},
    ]
    data = {"kind": "labelled", "sources": sources, "augment": {"rotate": 1.0}} | sections.pop("data", {})
    return make_config(folder, data=data, fitting=fitting, **sections)


def save_static(folder: Path, params: SmplParams, name: str = "plain") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}_fits.npy", fit_values(params).numpy())
    return folder


def supervision(config: ExperimentConfig, body: BodyModel) -> tuple[FitSupervision, ImageBatch]:
    people = Mixture(body, config.data)
    return FitSupervision(config, people.members, body, ALONE), people.__getitems__(range(40))


def targets_of(batch: ImageBatch) -> Targets:
    assert batch.targets is not None
    return batch.targets


def has_points(targets: Targets) -> Tensor:
    return (targets.joints2d[..., 2] > 0).sum(-1) > 10


class Oracle(torch.nn.Module):
    """Answers with the truth of each row as its augmented crop shows it, recognised by the item seed."""

    def __init__(self, batch: ImageBatch, truth: SmplParams) -> None:
        super().__init__()
        self._rows = {int(seed): row for row, seed in enumerate(batch.item_seed)}
        self._truth = truth
        self.modes: list[bool] = []

    def sample(self, batch: ImageBatch, num_samples: int, _sampler: SamplerConfig, _seed: int) -> Prediction:
        assert num_samples == 1
        self.modes.append(self.training)
        rows = [self._rows[int(seed)] for seed in batch.item_seed]
        params = self._truth.map(lambda value: value[rows].unsqueeze(1))
        return Prediction(params, torch.ones(len(rows), 1, 3))


# What a fit becomes in a batch


def test_a_true_fit_lies_on_the_augmented_joints(tmp_path: Path, sample: Sample, body: BodyModel) -> None:
    """Flipped and turned as the crop is: the fit and its camera put all joints where the labels of the crop are."""
    static = save_static(tmp_path / "static", sample.params)
    supervise, batch = supervision(fit_config(tmp_path, sample, {"fits": str(static)}), body)
    before, after = targets_of(batch), targets_of(supervise.supervise(batch, None))
    augmentation = draw_augmentation(batch.item_seed.numpy(), supervise._config.data.augment)
    used = after.has_params & ~before.has_params
    assert augmentation.flip[used].any() and not augmentation.flip[used].all()
    assert np.abs(augmentation.rotation[used]).max() > 0.5
    assert bool(after.has_camera[used].all())
    projected = project_crop(body.joints(after.params, SPIN49), after.camera)[used]
    labels = after.joints2d[used]
    offset = torch.where(labels[..., 2:] > 0, projected - labels[..., :2], 0)
    assert float(offset.abs().max()) < 0.02
    assert supervise.shares["used"] == used.float().mean() and supervise.shares["improved"] == 0
    # Everybody with enough 2D labels in the file without parameters, nobody else.
    plain = before.item is not None and (before.item >= COUNT)
    assert torch.equal(used, plain & has_points(before))


def test_smpl_labels_win(tmp_path: Path, sample: Sample, body: BodyModel) -> None:
    wrong = SmplParams.from_rotations(sample.params.rotations.flip(0), sample.params.betas)
    static = save_static(tmp_path / "static", wrong, "known")
    config = fit_config(tmp_path, sample, {"fits": str(static), "in_the_loop": True, "iterations": 1})
    supervise, batch = supervision(config, body)
    before = targets_of(batch)
    model = Oracle(batch, before.params)
    after = targets_of(supervise.supervise(batch, model))  # type: ignore[arg-type]
    known = before.has_params
    assert torch.equal(after.params.rotations[known], before.params.rotations[known])
    assert torch.equal(after.camera[known], before.camera[known])
    assert before.item is not None
    assert bool(supervise.fits.score[before.item[known]].isnan().all())


def test_bad_and_extreme_fits(tmp_path: Path, sample: Sample, body: BodyModel) -> None:
    betas = sample.params.betas.clone()
    betas[::2] = 0
    betas[::2, 3] = 3.5
    rotations = sample.params.rotations.clone()
    rotations[1] = torch.tensor([1.0, -1.0, -1.0]).diag() @ rotations[1]  # upside down
    static = save_static(tmp_path / "static", SmplParams.from_rotations(rotations, betas))
    supervise, batch = supervision(fit_config(tmp_path, sample, {"fits": str(static)}), body)
    after = targets_of(supervise.supervise(batch, None))
    assert after.item is not None
    row = after.item - COUNT
    assert not after.has_params[row == 1].any() and supervise.fits.score[COUNT + 1] > 100
    extreme = after.has_params & (row >= 0) & (row % 2 == 0)
    assert bool(extreme.any()) and bool((after.params.betas[extreme] == 0).all())
    ordinary = after.has_params & (row >= 0) & (row % 2 == 1)
    torch.testing.assert_close(after.params.betas[ordinary], betas[row[ordinary]])
    # The dictionary keeps what it was given.
    assert bool((supervise.fits.values[COUNT::2, 72 + 3] == 3.5).all())
    # The fits with the wrong betas are not exact; a strict threshold leaves the exact ones.
    strict = fit_config(tmp_path, sample, {"fits": str(static), "max_score": 1e-3})
    supervise, batch = supervision(strict, body)
    used = targets_of(supervise.supervise(batch, None)).has_params & (row >= 0)
    assert torch.equal(used, ordinary)


def test_answers_are_taken_back_to_the_picture(tmp_path: Path, sample: Sample, body: BodyModel) -> None:
    """A model that knows the truth of every augmented crop gives fits that are the truth of the label file."""
    config = fit_config(tmp_path, sample, {"in_the_loop": True, "iterations": 1})
    supervise, batch = supervision(config, body)
    everybody = save_static(tmp_path / "static", sample.params)
    true_config = fit_config(tmp_path, sample, {"fits": str(everybody)})
    truth = targets_of(supervision(true_config, body)[0].supervise(batch, None))
    model = Oracle(batch, truth.params)
    model.train()
    after = targets_of(supervise.supervise(batch, model))  # type: ignore[arg-type]
    assert model.training and model.modes == [False]
    assert after.item is not None
    fitted = after.has_params & (after.item >= COUNT)
    rows = after.item[fitted]
    assert int(fitted.sum()) > 7 and bool((supervise.fits.score[rows] < 5).all())
    expected = sample.params.rotations[rows - COUNT]
    # One step of Adam turns by 0.01 per number at most.
    torch.testing.assert_close(supervise.fits.params(rows).rotations, expected, atol=0.06, rtol=0)
    assert supervise.shares["improved"] > 0
    again = supervise.fits.score.clone()
    supervise.supervise(batch, model)  # type: ignore[arg-type]
    assert bool((supervise.fits.score <= again).all())


def test_a_bad_model_does_no_harm(tmp_path: Path, sample: Sample, body: BodyModel) -> None:
    static = save_static(tmp_path / "static", sample.params)
    config = fit_config(tmp_path, sample, {"fits": str(static), "in_the_loop": True, "iterations": 1})
    supervise, batch = supervision(config, body)
    before = targets_of(batch)
    rest = SmplParams.from_rotations(torch.eye(3).expand(40, 24, 3, 3), torch.zeros(40, 10))
    supervise.supervise(batch, Oracle(batch, rest))  # type: ignore[arg-type]
    assert before.item is not None
    rows = before.item[(before.item >= COUNT) & has_points(before)] - COUNT
    stored = supervise.fits.params(rows + COUNT).rotations
    torch.testing.assert_close(stored, sample.params.rotations[rows], atol=1e-5, rtol=0)


def test_rows_without_a_number_are_refused(tmp_path: Path, sample: Sample, body: BodyModel) -> None:
    static = save_static(tmp_path / "static", sample.params)
    supervise, batch = supervision(fit_config(tmp_path, sample, {"fits": str(static)}), body)
    with pytest.raises(AssertionError, match="rows of label files"):
        supervise.supervise(replace(batch, targets=replace(targets_of(batch), item=None)), None)


# Runs

LOOP = {"in_the_loop": True, "iterations": 3, "max_score": 1e5}


def watched_run(config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The scores of all rows after every step of a run."""
    scores: list[Tensor] = []
    update = Trainer.update

    def watching(self: Trainer[HmrModel, ImageBatch]) -> None:
        update(self)
        assert isinstance(self.task, PeopleTask) and self.task.fits is not None
        scores.append(self.task.fits.fits.score.clone())

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", watching)
        run(config)
    return scores


def test_fits_improve_and_never_get_worse(tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    train = {"steps": 12, "batch_size": 16, "checkpoint_every": 12, "validate_every": 12, "picture_every": 12}
    scores = watched_run(fit_config(tmp_path, sample, LOOP, train=train), monkeypatch)
    assert len(scores) == 12
    for early, late in itertools.pairwise(scores):
        assert bool((late <= early).all())
    finite = scores[-1][scores[-1].isfinite()]
    # 16 people of the second file have 2D labels, 4 of the first have no parameters but 2D labels (rows 4, 8, 12, 16).
    assert len(finite) == 20 and bool((scores[-1][COUNT:][::5] == torch.inf).all())
    assert float((scores[-1] < scores[3]).sum()) > 5


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, killed = (fit_config(tmp_path / name, sample, LOOP) for name in ("whole", "killed"))
    run(whole)
    run_until(killed, 3, monkeypatch)
    assert sorted(path.name for path in (killed.output / "run/fits").iterdir()) == ["2"]
    kept = [killed.output / "run/fits" / name for name in ("2 before lunch/coco_fits.npy", "notes.txt")]
    kept[0].parent.mkdir()
    for path in kept:
        path.touch()

    def dying(*_: object) -> None:
        raise Killed

    # The fits of step 4 are on disk, its state is not: the run goes on at step 2 with the fits of step 2.
    with monkeypatch.context() as patch:
        patch.setattr("diffhmr.training.loop.save_state", dying)
        with pytest.raises(Killed):
            run(killed, resume=True)
    assert load_state(killed.output / "run/state.pt").step == 2
    assert {"2", "4"} <= {path.name for path in (killed.output / "run/fits").iterdir()}
    run(killed, resume=True)
    assert_same_weights(whole.output / "run/model.safetensors", killed.output / "run/model.safetensors")
    for name in ("plain_fits.npy", "plain_scores.npy", "known_fits.npy", "known_scores.npy"):
        files = [config.output / "run/fits/6" / name for config in (whole, killed)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    assert sorted(path.name for path in (killed.output / "run/fits").iterdir()) == ["2 before lunch", "6", "notes.txt"]
    assert all(path.exists() for path in kept)


def test_a_run_without_its_fits_is_not_resumed(tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    config = fit_config(tmp_path, sample, LOOP)
    run_until(config, 3, monkeypatch)
    (config.output / "run/fits/2/plain_scores.npy").unlink()
    with pytest.raises(UserError, match="plain_scores"):
        run(config, resume=True)


def test_fits_of_a_run_are_the_static_fits_of_another(tmp_path: Path, sample: Sample) -> None:
    """Static fits supervise, give statistics to data without any parameters, and are not written again."""
    config = fit_config(tmp_path / "first", sample, LOOP)
    run(config)
    sources = [config.data.sources[1].model_dump(mode="json", exclude={"weight"})]
    fitting = {"fits": str(config.output / "run/fits/6"), "max_score": 1e5}
    second = fit_config(tmp_path / "second", sample, fitting, data={"sources": sources})
    trainer = make_trainer(second)
    trainer.start()
    batch = next(trainer.batches())
    assert bool(targets_of(batch).has_params.any())
    run(second)
    assert not (second.output / "run/fits").exists()
    alone = fit_config(tmp_path / "third", sample, {}, data={"sources": sources})
    with pytest.raises(UserError, match="SMPL parameters"):
        run(alone)


def test_fits_change_what_is_learned(tmp_path: Path, sample: Sample) -> None:
    static = save_static(tmp_path / "static", sample.params)
    settings: dict[str, dict[str, Any]] = {"without": {}, "with": {"fits": str(static)}}
    without, with_fits = (fit_config(tmp_path / name, sample, fitting) for name, fitting in settings.items())
    for config in (without, with_fits):
        run(config)
    with pytest.raises(AssertionError):
        assert_same_weights(*(config.output / "run/model.safetensors" for config in (without, with_fits)))


def test_dry_run_counts_the_fitting(tmp_path: Path, sample: Sample) -> None:
    assert "one step" in dry_run(fit_config(tmp_path, sample, LOOP))
    assert not (tmp_path / "run").exists()


def test_names_have_to_be_names_of_files(tmp_path: Path, sample: Sample, body: BodyModel) -> None:
    source = {"name": "a/b", "labels": str(sample.labels), "images": str(sample.images)}
    with pytest.raises(UserError, match="'a/b'"):
        supervision(fit_config(tmp_path, sample, LOOP, data={"sources": [source]}), body)


def test_settings_that_do_nothing_are_errors() -> None:
    cases: dict[str, dict[str, Any]] = {
        "data.kind: labelled": {"fitting": {"in_the_loop": True}},
        "fitting.iterations belongs": {"fitting": {"iterations": 7}},
        "fitting.prior belongs": {"fitting": {"prior": "gmm_08.pkl"}},
        "max_score needs": {"fitting": {"max_score": 50.0}},
    }
    for message, sections in cases.items():
        with pytest.raises(UserError, match=message):
            config_from_dict({"name": "a"} | sections)


@pytest.mark.slow
def test_two_processes_share_their_fits(tmp_path: Path, sample: Sample) -> None:
    """Both processes end with the same fits of all rows, and with those of one process, up to rounding."""
    train = {"steps": 3, "batch_size": 16, "checkpoint_every": 3, "validate_every": 3, "picture_every": 3}
    alone, together = (fit_config(tmp_path / name, sample, LOOP, train=train) for name in ("alone", "together"))
    run(alone)
    settings = tmp_path / "config.yaml"
    settings.write_text(dump_config(together))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*launcher, "train.py", "--config", str(settings)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for name in ("plain", "known"):
        one, two = (np.load(config.output / f"run/fits/3/{name}_scores.npy") for config in (alone, together))
        assert np.isfinite(one).sum() >= (9 if name == "plain" else 2)
        np.testing.assert_array_equal(np.isfinite(one), np.isfinite(two))
        np.testing.assert_allclose(one, two, rtol=0.02)
