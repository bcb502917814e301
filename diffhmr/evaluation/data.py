"""The people of an evaluation: which label file, which of its rows, and what a result should say about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import REPOSITORY
from diffhmr.config import DataConfig, ExperimentConfig, KeypointNoiseConfig
from diffhmr.datasets.labelled import LabelledPeople
from diffhmr.datasets.labels import Labels, read_labels
from diffhmr.datasets.synthetic import SyntheticPeople
from diffhmr.errors import UserError
from diffhmr.evaluation.protocols import SYNTHETIC, find_protocol
from diffhmr.evaluation.terms import PIXEL_CROP, EvaluationProtocol
from diffhmr.files import sha256_file

_SYNTHETIC_PEOPLE = (
    "kind", "seed", "images", "image_size", "keypoint_noise", "occluder", "truncation", "archive", "backgrounds",
    "test_items",
)  # fmt: skip


class EvaluatedDataset(Protocol):
    """What an evaluation needs of a data set: whole batches with targets, each item the same in any batch."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        """The items of these indices."""
        ...


@dataclass(frozen=True)
class Source:
    """What a model is evaluated on.

    Attributes:
        dataset: name of the data set.
        protocol: name of one of its protocols; None for the default.
        data: its folder or label file; None for ``data/<dataset>/``.
        images: folder of the pictures; None for what the label file says.

    Raises:
        UserError: there is no such data set or protocol, or an option does not belong to it.
    """

    dataset: str
    protocol: str | None = None
    data: Path | None = None
    images: Path | None = None

    def __post_init__(self) -> None:
        find_protocol(self.dataset, self.protocol)
        if self.dataset == SYNTHETIC.dataset and (self.data is not None or self.images is not None):
            raise UserError("synthetic people are made on demand: --data and --images belong to other data sets")

    @property
    def terms(self) -> EvaluationProtocol:
        """The protocol."""
        return find_protocol(self.dataset, self.protocol)


@dataclass(frozen=True)
class EvaluatedPeople:
    """People under a protocol.

    Attributes:
        dataset: gives them as batches.
        description: of where they come from, for the result.
        row: ``(N,)`` int64 of the label file, of each; for synthetic people their index.
        imgname: ``(N,)`` str, empty for synthetic people.
        crop_per_box: ``[N]`` for protocols in the image, see ``Measurer``.
    """

    dataset: EvaluatedDataset
    description: dict[str, Any]
    row: np.ndarray
    imgname: np.ndarray
    crop_per_box: Tensor | None = None


def open_people(source: Source, config: ExperimentConfig, body: BodyModel) -> EvaluatedPeople:
    """The people of ``source`` in the form that the model of ``config`` takes.

    Raises:
        UserError: the label file is missing, damaged, has no row that the protocol measures, or lacks what the model
            takes or the protocol measures.
    """
    protocol = source.terms
    if protocol is SYNTHETIC:
        data = synthetic_data(config.data)
        made = SyntheticPeople(body, data, "test")
        return EvaluatedPeople(made, synthetic_people(data), np.arange(len(made)), np.full(len(made), "", np.str_))
    path = _label_file(source)
    labels = read_labels(path)
    rows = protocol.rows.select(labels)
    if not len(rows):
        raise UserError(f"{path} has no row that {protocol.full_name} measures ({protocol.rows.describe()})")
    kept = labels.rows(rows)
    use_images = config.model.encoder.kind == "image"
    root = _image_root(source, path, labels)
    if not use_images and not (kept.keypoints[..., 2] > 0).any():
        raise UserError(
            f"{path} has no 2D keypoints, which this checkpoint needs; take a checkpoint that reads pictures"
        )
    # Where the pictures lie is nobody's business, and differs from machine to machine.
    meta = {key: value for key, value in labels.meta.items() if key != "images"}
    description = {
        "split": str(labels.meta.get("split", path.stem)),
        "labels": {**describe_file(path), "meta": meta},
        "rows": {"of_file": len(labels), "measured": len(rows), "sha256": rows_sha256(kept)},
        "input": "pictures" if use_images else "the 2D keypoints of the label file",
        "test_items": len(rows),
    }
    if use_images:
        description["image_size"] = config.data.image_size
    people = LabelledPeople(kept, root, config.data.image_size, images=use_images, name=path.name)
    per_box = _crop_per_box(kept, path) if protocol.pck2d else None
    return EvaluatedPeople(people, description, rows, kept.imgname, per_box)


def rows_sha256(labels: Labels) -> str:
    """Hash of everything in ``labels`` that decides a number: the pictures' names, the boxes and the labels.

    Unlike that of the file it does not depend on how the file came about: neither on where the pictures lie, which the
    file says, nor on rows that are not measured.
    """
    digest = hashlib.sha256("\n".join(labels.imgname).encode())
    arrays = [labels.center, labels.side, labels.keypoints, labels.joints3d, labels.pose, labels.betas, labels.has_smpl]
    arrays += [labels.gender, labels.extra.get("bbox", np.zeros(0))]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def synthetic_data(trained: DataConfig) -> DataConfig:
    """The people of the protocol ``synthetic-v1``: the same for every model, however it was trained.

    Only the form of the input, images and their size, is taken from ``trained``. A change of these people makes a new
    version of the protocol.
    """
    noise = KeypointNoiseConfig(jitter=0.01, outlier=0.01, drop_point=0.08, drop_limb=0.12, drop_hidden=0.5, swap=0.02)
    return DataConfig(
        seed=0,
        images=trained.images,
        image_size=trained.image_size,
        keypoint_noise=noise,
        occluder=0.4,
        truncation=0.2,
        archive=None,
        backgrounds=None,
        test_items=2000,
    )


def synthetic_people(data: DataConfig) -> dict[str, Any]:
    """The people of :func:`synthetic_data`, for the result."""
    return {"split": "test"} | data.model_dump(mode="json", include=set(_SYNTHETIC_PEOPLE))


def synthetic_protocol(body: BodyModel, people: dict[str, Any]) -> dict[str, Any]:
    """What the numbers of ``synthetic-v1`` mean, as its results say since its first day.

    Args:
        body: on which joints and meshes are compared.
        people: see :func:`synthetic_people`.
    """
    outside = [name for name in SYNTHETIC.regressors() if body.regressor_paths[name] != body.path]
    return {
        "name": SYNTHETIC.full_name,
        "joint_set": "J14",
        "joint_source": "SPIN49",
        "root": "pelvis_mpii (SPIN49 joint 39), of the prediction and of the truth",
        "alignment": {
            "mpjpe_mm": "root",
            "pa_mpjpe_mm": "similarity with scale, per hypothesis",
            "pve_mm": "root joint, all vertices",
        },
        "body": describe_body(body, outside or None),
        "mode": "the single answer (zero-noise start); not counted among the samples",
        "mean_of_samples": "error of the mean of the root-aligned points of the random samples",
        "random": "mean error of the random samples",
        "min_of": "uses ground truth to choose: minimum per metric over n random samples, expectation over all subsets",
        "mean_pose": "the mean parameters of the training people (chordal mean of rotations), the same for everybody",
        "energy_score_mm": "mean over the joints of J14; equals MPJPE for a single answer; lower is better",
        "ece": "J14; Pierzchlewicz et al. 2022; 21 quantiles, median over joints; ece_bias below 0: over-confident; "
        "of 25 calibrated samples 0.03 and -0.03, as their centre is made of themselves",
        "diversity": "COCO17, distance to the mean of the samples, pooled over visible or invisible joints",
        "diversity_humaniflow": "invisible: elbows, wrists, knees and ankles that are; visible: all other points",
        "reprojection_px": f"visible COCO17 joints, pixels of a {PIXEL_CROP} x {PIXEL_CROP} crop",
        "depth_rank_histogram": "share of truths below which 0 ... n samples lie in depth; flat when calibrated",
        "people": people,
    }


def describe_body(body: BodyModel, regressors: Sequence[str] | None = None) -> dict[str, Any]:
    """Which body file, and whence these of its joint regressors, for the result."""
    described: dict[str, Any] = {"name": body.name, **describe_file(body.path, body.sha256)}
    if regressors is not None:
        described["regressors"] = {name: describe_file(body.regressor_paths[name]) for name in regressors}
    return described


def describe_file(path: Path, sha256: str | None = None) -> dict[str, str]:
    """Path and checksum, for the result."""
    return {"path": portable(path), "sha256": sha256 or sha256_file(path)}


def portable(path: str | Path) -> str:
    """A path inside the project relative to it, so that results do not depend on where the project lies."""
    resolved = Path(path).resolve()
    return str(resolved.relative_to(REPOSITORY)) if resolved.is_relative_to(REPOSITORY) else str(path)


def _label_file(source: Source) -> Path:
    protocol = source.terms
    if source.data is not None:
        places = [source.data]
        if source.data.is_file():
            return source.data
    else:
        folders = [Path("data") / name for name in protocol.folders or (source.dataset,)]
        places = [folder if folder.exists() else REPOSITORY / folder for folder in folders]
    for place in places:
        for name in protocol.files:
            if (place / name).is_file():
                return place / name
    raise UserError(
        f"the labels of {protocol.full_name} are missing: there is no {' or '.join(protocol.files)} in "
        f"{' or '.join(map(str, places))}; make it with python -m scripts.prepare_{source.dataset}, or say with --data "
        "where it is"
    )


def _image_root(source: Source, path: Path, labels: Labels) -> Path:
    """The folder of the pictures; a relative one in the label file is meant from there."""
    if source.images is not None:
        if not source.images.is_dir():
            raise UserError(f"--images {source.images} is no folder; give the one to which the labels' imgname belong")
        return source.images
    return path.parent / str(labels.meta.get("images", "."))


def _crop_per_box(labels: Labels, path: Path) -> Tensor:
    """Side of the crop over the longer side of the tight box ``[N]``.

    Files of HMR 2.0 have no tight box beside ``scale``, which is the tight box there. In SPIN's layout ``scale`` has a
    margin that the file does not tell.
    """
    if "bbox" not in labels.extra:
        if labels.meta["format"] != "prohmr":
            raise UserError(
                f"{path} has no tight boxes (bbox), which are the unit of the PCK; make it with scripts.prepare_coco"
            )
        return torch.ones(len(labels))
    longer = labels.extra["bbox"][:, 2:].max(axis=1)
    if (longer <= 0).any():
        raise UserError(f"the tight box (bbox) of row {int(np.argmax(longer <= 0))} has no extent; leave the row out")
    return torch.from_numpy(labels.side / longer)
