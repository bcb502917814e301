"""From official releases (in miniature) to numbers by named protocols: prepare, train on the mixture, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from diffhmr.body.model import BodyModel
from diffhmr.datasets.labels import read_labels
from diffhmr.evaluation.run import EvaluationOptions, Output, Source
from diffhmr.evaluation.run import run as evaluate
from diffhmr.training.loop import run
from scripts import (
    prepare_3dpw,
    prepare_amass,
    prepare_coco,
    prepare_emdb,
    prepare_h36m,
    prepare_hr_lspet,
    prepare_lsp,
    prepare_mpi_inf_3dhp,
    prepare_mpii,
)
from tests.releases.amass import write_amass
from tests.releases.coco import write_coco
from tests.releases.emdb import write_emdb
from tests.releases.h36m import write_h36m
from tests.releases.hr_lspet import write_hr_lspet
from tests.releases.lsp import write_lsp
from tests.releases.mpi_inf_3dhp import write_mpi_inf_3dhp
from tests.releases.mpii import write_mpii
from tests.releases.three_dpw import write_three_dpw
from tests.training.runs import make_config

SMALL: dict[str, Any] = {"regressor": {"width": 16}, "denoiser": {"width": 16, "blocks": 1}}

TRAINED = ("3dpw", "h36m", "mpi_inf_3dhp", "coco2014", "mpii", "lsp", "hr_lspet")
PROTOCOLS = (
    ("3dpw", "3dpw-spin-free-body"), ("3dpw", "3dpw-prohmr-free-body"), ("3dpw", "3dpw-neutral17-free-body"),
    ("3dpw", "3dpw-occ-free-body"), ("h36m", "h36m-p1"), ("h36m", "h36m-p2"),
    ("mpi_inf_3dhp", "mpi-inf-3dhp"), ("emdb", "emdb1-24-free-body"), ("coco", "coco-pck"),
)  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """Attributes: ``data`` with a folder of label files per data set; ``images`` of each data set's pictures."""

    data: Path
    images: dict[str, Path]


def _prepare(
    data: Path, raw: Path, name: str, write: Callable[[Path], Any], main: Callable[[Sequence[str]], int], *words: str
) -> Path:
    root = raw / name
    write(root)
    assert main(["--root", str(root), "--out", str(data / name), *words]) == 0
    own = data / name / "images"  # pictures that had to be taken out of videos
    return own if own.is_dir() else root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, free_body: BodyModel) -> Prepared:
    folder = tmp_path_factory.mktemp("real")
    data, raw, body = folder / "data", folder / "raw", free_body

    def step(name: str, write: Callable[[Path], Any], main: Callable[[Sequence[str]], int], *words: str) -> Path:
        return _prepare(data, raw, name, write, main, *words)

    def coco(root: Path) -> None:
        write_coco(root, body, split="train")
        write_coco(root, body, split="val", seed=1)

    images = {
        "3dpw": step("3dpw", lambda root: write_three_dpw(root, body), prepare_3dpw.main, "--partial"),
        "emdb": step("emdb", lambda root: write_emdb(root, body), prepare_emdb.main, "--partial"),
        "h36m": step("h36m", lambda root: write_h36m(root, body), prepare_h36m.main, "--partial"),
        "mpi_inf_3dhp": step(
            "mpi_inf_3dhp", lambda root: write_mpi_inf_3dhp(root, body), prepare_mpi_inf_3dhp.main, "--partial"
        ),
        "coco2014": step("coco2014", coco, prepare_coco.main),
        "mpii": step("mpii", lambda root: write_mpii(root, body), prepare_mpii.main),
        "lsp": step("lsp", lambda root: write_lsp(root, body), prepare_lsp.main),
        "hr_lspet": step("hr_lspet", lambda root: write_hr_lspet(root, body), prepare_hr_lspet.main),
        "amass": step("amass", write_amass, prepare_amass.main, "--partial"),
    }
    return Prepared(data, images)


@pytest.fixture(scope="module")
def trained(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image model after 20 steps on all sets that have training people."""
    shares = {"h36m": 0.3, "mpi_inf_3dhp": 0.1}
    sources = [
        {"name": name, "labels": str(prepared.data / name / "train.npz"), "images": str(prepared.images[name]),
         "weight": shares.get(name)}
        for name in TRAINED
    ]  # fmt: skip
    config = make_config(
        tmp_path_factory.mktemp("run"),
        model={"encoder": {"kind": "image"}, **SMALL},
        data={"kind": "labelled", "images": True, "image_size": 32, "sources": sources, "val_items": 4},
        train={"steps": 20, "batch_size": 4, "checkpoint_every": 20, "validate_every": 20, "picture_every": 20,
               "statistics_items": 32},
    )  # fmt: skip
    return run(config)


def test_every_set_has_people(prepared: Prepared) -> None:
    for name in TRAINED:
        labels = read_labels(prepared.data / name / "train.npz")
        assert len(labels) >= 2, name
        assert labels.meta["dataset"] == name
        assert all((prepared.images[name] / str(picture)).is_file() for picture in labels.imgname), name


@pytest.mark.parametrize(("dataset", "protocol"), PROTOCOLS, ids=lambda value: str(value))
def test_the_trained_model_is_measured_by_name(
    dataset: str, protocol: str, prepared: Prepared, trained: Path, tmp_path: Path
) -> None:
    folder = "coco2014" if dataset == "coco" else dataset
    source = Source(dataset, protocol, prepared.data / folder)  # its label files say where the pictures are
    result = evaluate(trained, source, EvaluationOptions(num_samples=5, limit=2), Output(tmp_path / "r.json"))
    assert json.loads((tmp_path / "r.json").read_text()) == result
    assert result["num_items"] == 2
    assert result["protocol"]["name"].startswith(f"{protocol}-v1")
    metrics = result["metrics"]
    if protocol == "coco-pck":
        assert 0 <= metrics["pck_0.05"]["mode"] <= metrics["pck_0.1"]["mode"] <= 1
    else:
        curve = [value for value in metrics["mpjpe_mm"]["min_of"].values() if value is not None]
        assert len(curve) >= 2 and 20 < min(curve) == curve[-1] < curve[0] < 2000


def test_synthetic_people_take_their_poses_from_the_archive(prepared: Prepared, tmp_path: Path) -> None:
    config = make_config(
        tmp_path,
        model={"encoder": {"kind": "keypoints", "width": 16, "layers": 1, "heads": 2}, **SMALL},
        data={"images": False, "archive": str(prepared.data / "amass")},
        train={"steps": 20, "batch_size": 4},
    )
    assert run(config).is_file()
