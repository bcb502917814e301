"""Training on label files: a mixture of two with pictures, resuming, keypoints only, validation on a held-out file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_body, load_checkpoint
from diffhmr.config import ExperimentConfig
from diffhmr.config_file import dump_config, load_config
from diffhmr.datasets import build_dataset
from diffhmr.datasets.labels import write_labels
from diffhmr.errors import UserError
from diffhmr.training.data import StepSlice, step_batches
from diffhmr.training.loop import run
from diffhmr.training.people_task import people_for_statistics
from diffhmr.training.validation import Validation, hypotheses_picture, validate
from tests.datasets.labelled_samples import Sample, write_sample
from tests.training.runs import Oracle, assert_same_weights, make_config, run_until


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("data/body/free_body.npz")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> tuple[Sample, Sample]:
    folder = tmp_path_factory.mktemp("samples")
    return write_sample(folder, body, 6, seed=1), write_sample(folder, body, 16, seed=2)


def labelled_config(folder: Path, samples: tuple[Sample, Sample], images: bool, **data: Any) -> ExperimentConfig:
    entries = [{"name": name, "labels": str(sample.labels), "images": str(sample.images)}
               for name, sample in zip("ab", samples, strict=True)]  # fmt: skip
    entries[0]["weight"] = 0.3  # type: ignore[assignment]
    model: dict[str, Any] = {"encoder": {"kind": "keypoints", "width": 16, "layers": 1, "heads": 2}}
    if images:
        model = {"encoder": {"kind": "image"}}
    small = {"regressor": {"width": 16}, "denoiser": {"width": 16, "blocks": 1}}
    sections = {
        "model": {**model, **small},
        "data": {"kind": "labelled", "images": images, "image_size": 32, "sources": entries, "val_items": 4, **data},
        "train": {"steps": 3, "batch_size": 4, "checkpoint_every": 1, "validate_every": 3, "picture_every": 3,
                  "statistics_items": 32},
    }  # fmt: skip
    return make_config(folder, **sections)


def held_out(sample: Sample) -> dict[str, Any]:
    return {"name": "held out", "labels": str(sample.labels), "images": str(sample.images)}


def test_a_mixture_with_pictures_trains_and_resumes(
    tmp_path: Path, samples: tuple[Sample, Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = labelled_config(tmp_path / "whole", samples, images=True, validation=held_out(samples[1]))
    whole = run(config)
    events = EventAccumulator(str(whole.parent / "tensorboard"))
    events.Reload()
    assert events.Scalars("val/mode_mpjpe_mm")[-1].value > 0
    parts = config.model_copy(update={"output": tmp_path / "parts"})
    run_until(parts, 2, monkeypatch)
    assert_same_weights(whole, run(parts, resume=True))
    assert load_checkpoint(whole, "cpu").config == config


def test_settings_survive_the_file(tmp_path: Path, samples: tuple[Sample, Sample]) -> None:
    config = labelled_config(tmp_path, samples, images=True, validation=held_out(samples[0]))
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml", []) == config
    broken = yaml.safe_load(dump_config(config))
    broken["data"]["sources"][0]["weigth"] = broken["data"]["sources"][0].pop("weight")
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(broken))
    with pytest.raises(UserError, match=r"data\.sources\.0\.weigth"):
        load_config(tmp_path / "broken.yaml", [])


def test_workers_change_no_number(tmp_path: Path, samples: tuple[Sample, Sample], body: BodyModel) -> None:
    config = labelled_config(tmp_path, samples, images=True).data
    dataset, steps = build_dataset(config, body, "train"), StepSlice(0, 3, 4, 0, 4)
    for here, there in zip(step_batches(dataset, steps, 0), step_batches(dataset, steps, 2), strict=True):
        assert here.image is not None and there.image is not None
        assert torch.equal(here.image, there.image)
        assert here.targets is not None and there.targets is not None
        assert torch.equal(here.targets.joints2d, there.targets.joints2d)


def test_a_missing_picture_stops_the_run_with_its_row(tmp_path: Path, body: BodyModel) -> None:
    samples = write_sample(tmp_path, body, 4, seed=3), write_sample(tmp_path, body, 4, seed=4)
    for path in (tmp_path / "images" / "pictures").glob("4_*.jpg"):
        path.unlink()
    config = labelled_config(tmp_path / "out", samples, images=True).model_copy(deep=True)
    for workers in (0, 1):
        dataset = build_dataset(config.data, body, "train")
        with pytest.raises(UserError, match=r"train_4\.npz, row \d: cannot read the image .*4_00\d\.jpg"):
            list(step_batches(dataset, StepSlice(0, 3, 4, 0, 4), workers))


def test_keypoints_only_needs_no_picture(tmp_path: Path, samples: tuple[Sample, Sample]) -> None:
    nowhere = tuple(Sample(s.labels, Path("/nowhere"), s.params, s.camera, s.rows) for s in samples)
    assert run(labelled_config(tmp_path, nowhere, images=False)).is_file()


def test_statistics_come_from_people_with_a_camera(
    tmp_path: Path, samples: tuple[Sample, Sample], body: BodyModel
) -> None:
    config = labelled_config(tmp_path, samples, images=True).data
    params, camera = people_for_statistics(config, body, 64)
    assert 20 < len(camera) < 64 and len(params.betas) == len(camera)
    assert bool(params.rotations.isfinite().all()) and 0.5 < float(camera[:, 0].mean()) < 1.1
    rows = {name: array for name, array in samples[0].rows.items() if name not in ("pose", "shape", "has_smpl")}
    write_labels(tmp_path / "bare.npz", rows, {"dataset": "bare", "split": "train"})
    source = config.sources[1].model_copy(update={"labels": tmp_path / "bare.npz"})
    with pytest.raises(UserError, match="add a label file with fits"):
        people_for_statistics(config.model_copy(update={"sources": (source,)}), body, 64)


@pytest.mark.parametrize("labels", ["both", "joints", "parameters"])
def test_validation_uses_what_truth_there_is(
    tmp_path: Path, samples: tuple[Sample, Sample], body: BodyModel, labels: str
) -> None:
    rows = dict(samples[1].rows)
    if labels == "joints":
        rows.pop("pose")
        rows.pop("shape")
        rows.pop("has_smpl")
    if labels == "parameters":
        rows.pop("S")
    write_labels(tmp_path / "val.npz", rows, {"dataset": "a", "split": "val"})
    source = {**held_out(samples[1]), "labels": str(tmp_path / "val.npz")}
    config = labelled_config(tmp_path, samples, images=False, validation=source)
    people = build_dataset(config.data, body, "val")
    validation = Validation(people, body, config.sampler, 0)
    scores = validate(Oracle(0.0), validation)  # type: ignore[arg-type]
    if labels == "parameters":
        assert scores["mode_mpjpe_mm"] == pytest.approx(0, abs=0.01)
    else:
        assert scores["mode_mpjpe_mm"] >= 0
    sheet = hypotheses_picture(Oracle(0.0), validation)  # type: ignore[arg-type]
    assert bool(sheet.isfinite().all())
