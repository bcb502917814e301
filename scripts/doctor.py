"""Which files are there, what each is for, and where to get the missing ones: `python -m scripts.doctor [--json]`.

Nothing listed here is needed for the demo, the tests or training on synthetic people, except the free body, the pose
prior and the checkpoints, which come with the project.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
import torchvision

from diffhmr.body.files import read_body, read_regressor
from diffhmr.body.joints import (
    EXTRA_REGRESSOR,
    EXTRA_ROWS,
    H36M_REGRESSOR,
    H36M_ROWS,
    J19_REGRESSOR,
    J19_ROWS,
    REGRESSOR_FILES,
)
from diffhmr.checkpoint import config_of, read_metadata
from diffhmr.command_line import CommandParser, run_command
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.protocols import CLIP_PROTOCOLS, ClipProtocol
from diffhmr.evaluation.protocols import PROTOCOLS
from diffhmr.evaluation.terms import EvaluationProtocol
from diffhmr.evaluation.truth import genders_of
from diffhmr.files import sha256_file
from diffhmr.fitting.prior import load_prior
from diffhmr.inference.detection import WEIGHTS_URL
from diffhmr.model_file import MOTION_MODEL, is_of_format
from diffhmr.motion_checkpoint import read_motion_metadata
from scripts.doctor_data import optional_packages, wanted_data
from scripts.doctor_wanted import PROHMR_SITE, SPIN_FILES, Details, Finding, Wanted, examine, matching

ROOT = Path(__file__).resolve().parents[1]

SMPL_SITE = "https://smpl.is.tue.mpg.de"
SMPLIFY_SITE = "https://smplify.is.tue.mpg.de"
AMASS_SITE = "https://amass.is.tue.mpg.de"
SPIN_DATA = f"{SPIN_FILES}/data.tar.gz"

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "smplx", "roma", "safetensors", "opencv-python-headless")
PICTURES = {".jpg", ".jpeg", ".png"}


def wanted_files(root: Path, hub: Path) -> list[Wanted]:
    """Everything the project can use, below the project folder ``root`` and in torch's weight folder ``hub``."""
    body = root / "data" / "body"
    return [
        *_bodies(body),
        *_helpers(body),
        *_priors(body),
        *_checkpoints(root / "data" / "checkpoints"),
        *_network_weights(hub),
        *_data_sets(root / "data" / "datasets"),
        *wanted_data(root),
    ]


def _names(protocols: Iterable[EvaluationProtocol | ClipProtocol]) -> str:
    return ", ".join(protocol.name for protocol in protocols)


def _bodies(folder: Path) -> Iterator[Wanted]:
    yield Wanted(
        "bodies",
        "free body (not SMPL)",
        "the body of the demo, the tests and the shipped checkpoints; comes with the project",
        f"get it back with `git checkout data/body/free_body.npz`, or build it: `python -m scripts.build_free_body`; "
        f"it belongs at {folder / 'free_body.npz'}",
        (folder / "free_body.npz",),
        inspect_body,
    )
    v110 = f'register at {SMPL_SITE}, download "version 1.1.0 for Python 2.7 (female/male/neutral)" and put'
    for gender, letter in (("neutral", "neutral"), ("male", "m"), ("female", "f")):
        if gender == "neutral":
            older = f"the v1.0.0 neutral model is in the code package of {SMPLIFY_SITE} instead"
        else:
            older = '"version 1.0.0 for Python Users" there is read too'
        protocols = (*PROTOCOLS.values(), *CLIP_PROTOCOLS.values())
        measured = [protocol for protocol in protocols if gender in genders_of(protocol.truth_body)]
        yield Wanted(
            "bodies",
            f"SMPL {gender}",
            f"use SMPL's {gender} body in place of the free body: body.path=data/body/FILE; the truth of the protocols "
            f"{_names(measured)}",
            f"{v110} basicmodel_{letter}_lbs_10_207_0_v1.1.0.pkl, as it is or renamed to SMPL_{gender.upper()}.pkl, "
            f"into {folder}; {older}",
            matching(folder, rf"(smpl_{gender}|basicmodel_{letter}_lbs_10_207_0_v1\.[01]\.0)\.(pkl|npz)"),
            inspect_body,
        )


def _helpers(folder: Path) -> Iterator[Wanted]:
    remedy = (
        f"take data/{{0}} of SPIN's data release, {SPIN_DATA} (see https://github.com/nkolot/SPIN), and put it at {{1}}"
    )
    prohmr = f"take {{0}} of the data of ProHMR (fetch_data.sh of {PROHMR_SITE}) and put it at {{1}}"
    j19 = _names(protocol for protocol in PROTOCOLS.values() if J19_REGRESSOR in protocol.regressors())
    for key, rows, purpose, get in (
        (
            EXTRA_REGRESSOR,
            len(EXTRA_ROWS),
            "SPIN49, LSP14, J14 and HALPE26 on SMPL (LSP hips, head top, pelvis of MPII)",
            remedy,
        ),
        (
            H36M_REGRESSOR,
            len(H36M_ROWS),
            "H36M17 and J14_H36M on SMPL, the joints of Human3.6M's and 3DPW's protocols",
            remedy,
        ),
        (J19_REGRESSOR, len(J19_ROWS), f"J14_J19 on SMPL, the joints of {j19}", prohmr),
    ):
        path = folder / REGRESSOR_FILES[key]
        yield Wanted(
            "regressors",
            path.name,
            f"the joint sets {purpose}; the free body has its own",
            get.format(path.name, path),
            (path,),
            partial(inspect_regressor, rows=rows),
        )
    path = folder / "smpl_mean_params.npz"
    yield Wanted(
        "regressors",
        path.name,
        "not needed: the initial values of SPIN's regressor; models here start from the means of their training data",
        remedy.format(path.name, path),
        (path,),
        inspect_mean_params,
    )


def _priors(folder: Path) -> Iterator[Wanted]:
    path = folder / "pose_prior.npz"
    yield Wanted(
        "pose priors",
        path.name,
        "the pose prior of fits to 2D keypoints; comes with the project",
        f"get it back with `git checkout {path}`, or build it: `python -m scripts.build_pose_prior`",
        (path,),
        inspect_prior,
    )
    path = folder / "gmm_08.pkl"
    yield Wanted(
        "pose priors",
        path.name,
        f"SMPLify's own pose prior in its place: fitting.prior={path} in training, --prior of scripts.fit_smpl",
        f"register at {SMPLIFY_SITE}, download the code and put {path.name} of it at {path}",
        (path,),
        inspect_prior,
    )


def _checkpoints(folder: Path) -> Iterator[Wanted]:
    shipped = {
        "diffhmr_keypoints": ("Diff-HMR from 2D keypoints: the model for photographs", inspect_checkpoint),
        "diffhmr_synthetic": ("Diff-HMR from the image, trained on synthetic people", inspect_checkpoint),
        "diffmesh_synthetic": ("motions from 2D keypoints: the model for videos", inspect_motion_checkpoint),
    }
    for name, (purpose, inspect) in shipped.items():
        path = folder / f"{name}.safetensors"
        remedy = f"get it back with `git checkout {path}`, or train it: `python train.py --config configs/{name}.yaml`"
        yield Wanted("checkpoints", path.name, purpose, remedy, (path,), inspect)
    spin = folder / "spin_imported.safetensors"
    yield Wanted(
        "checkpoints",
        spin.name,
        f"SPIN's weights: a model for --checkpoint, and the start of configs/diffhmr_r50.yaml (init={spin})",
        f"download {SPIN_FILES}/model_checkpoint.pt, then "
        f"`python -m scripts.import_checkpoint --from spin model_checkpoint.pt --out {spin}`",
        (spin,),
        inspect_checkpoint,
    )
    for path in matching(folder, r".+\.safetensors"):
        if path.stem in shipped or path == spin:
            continue
        if is_of_format(path, MOTION_MODEL):
            purpose = "a network of clips of keypoints, for --checkpoint, init and load_motion_model"
            yield Wanted("checkpoints", path.name, purpose, "write it again", (path,), inspect_motion_checkpoint)
        elif path.stem.endswith("_imported"):
            purpose = f"weights of another project: the start of a training, init={path}"
            remedy = f"`python -m scripts.import_checkpoint --from PROJECT FILE --out {path}`"
            yield Wanted("checkpoints", path.name, purpose, remedy, (path,), inspect_checkpoint)
        else:
            purpose = "use it with --checkpoint"
            yield Wanted("checkpoints", path.name, purpose, "write it again", (path,), inspect_checkpoint)


def _network_weights(hub: Path) -> Iterator[Wanted]:
    entries = [("person and keypoint detector", "the demo finds people and their keypoints by itself", WEIGHTS_URL)]
    for backbone in ("resnet18", "resnet34", "resnet50"):
        url = torchvision.models.get_model_weights(backbone).IMAGENET1K_V1.url
        purpose = f"training an image model from ImageNet weights (model.encoder.backbone={backbone})"
        entries.append((f"{backbone} (ImageNet)", purpose, url))
    for name, purpose, url in entries:
        path = hub / url.rsplit("/", 1)[-1]
        remedy = f"fetched by itself when first needed; without a network, put {url} at {path}"
        yield Wanted("torchvision weights", name, purpose, remedy, (path,), inspect_hashed_weights)


def _data_sets(folder: Path) -> Iterator[Wanted]:
    amass, backgrounds = folder / "amass", folder / "backgrounds"
    yield Wanted(
        "data sets",
        "AMASS motion archive",
        f"AMASS as it is downloaded, for synthetic people in captured poses: data.archive={amass}",
        f'register at {AMASS_SITE}, download sets as "SMPL+H G" and unpack them below {amass}',
        (amass,),
        lambda path: count_files(path, {".npz"}, "motions"),
    )
    yield Wanted(
        "data sets",
        "background pictures",
        f"photographs behind the synthetic people instead of drawn scenes: data.backgrounds={backgrounds}",
        f"put any pictures without people (.jpg, .png) below {backgrounds}",
        (backgrounds,),
        lambda path: count_files(path, PICTURES, "pictures"),
    )


def inspect_body(path: Path) -> Details:
    """Version and size of a body file."""
    data = read_body(path)
    details: Details = {"sha256": data.sha256[:12], "vertices": len(data.v_template), "betas": data.available_betas}
    if data.is_smpl:
        details["version"] = "v1.1.0" if data.available_betas >= 300 else "v1.0.0"
        gender = re.search(r"neutral|female|male|_f_|_m_", path.name.lower())
        genders = {"_f_": "female", "_m_": "male"}
        details["gender"] = genders.get(gender[0], gender[0]) if gender else "unknown"
    if data.licence:
        details["licence"] = data.licence
    return details


def inspect_regressor(path: Path, rows: int) -> Details:
    """Shape of a joint regressor."""
    regressor = read_regressor(path, rows)
    return {"sha256": sha256_file(path)[:12], "shape": " x ".join(str(length) for length in regressor.shape)}


def inspect_mean_params(path: Path) -> Details:
    """Shapes of SPIN's mean parameters."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            shapes = {key: archive[key].shape for key in ("pose", "shape", "cam")}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no readable .npz with pose, shape and cam ({error})") from error
    if shapes != {"pose": (144,), "shape": (10,), "cam": (3,)}:
        raise UserError(f"{path} has arrays of the shapes {shapes}, expected pose (144,), shape (10,), cam (3,)")
    return {"sha256": sha256_file(path)[:12]}


def inspect_prior(path: Path) -> Details:
    """Number of Gaussians of a pose prior."""
    return {"sha256": sha256_file(path)[:12], "Gaussians": len(load_prior(path).cost)}


def inspect_checkpoint(path: Path) -> Details:
    """What the header of a model file says."""
    metadata = read_metadata(path)
    model = config_of(metadata, path).model
    details: Details = {"sha256": sha256_file(path)[:12], "model": f"{model.kind} on {model.encoder.kind}"}
    if "imported_from" in metadata:
        whole = metadata["body_name"] != "none"
        details["model"] = f"{'model' if whole else 'encoder only'}, imported from {metadata['imported_from']}"
    return details | {
        "step": int(metadata["step"]),
        "body": f"{metadata['body_name']} ({metadata['body_sha256'][:12]})",
    }


def inspect_motion_checkpoint(path: Path) -> Details:
    """What the header of a file with a network of clips says."""
    metadata = read_motion_metadata(path)
    kind = " ".join(filter(None, (metadata["kind"], metadata["variant"])))
    source = f", imported from {metadata['imported_from']}" if "imported_from" in metadata else ""
    return {"sha256": sha256_file(path)[:12], "model": f"{kind}{source}", "body": metadata["body_name"]}


def inspect_hashed_weights(path: Path) -> Details:
    """Compare a file with the checksum that its name carries, as all of torchvision's do."""
    digest, expected = sha256_file(path), path.stem.rsplit("-", 1)[-1]
    if not digest.startswith(expected):
        raise UserError(f"{path} is damaged (SHA-256 {digest[:12]}, not {expected}): delete it")
    return {"sha256": digest[:12]}


def count_files(folder: Path, suffixes: set[str], what: str) -> Details:
    """Number of files below ``folder``."""
    count = sum(path.suffix.lower() in suffixes for path in folder.rglob("*"))
    if not count:
        raise UserError(f"{folder} holds no {'/'.join(sorted(suffixes))} files")
    return {what: count}


def environment() -> dict[str, str]:
    """Versions of what runs here."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    versions["cpu cores"] = str(os.cpu_count())
    versions["cuda"] = f"built with {torch.version.cuda}" if torch.version.cuda else "not in this build of torch"
    if torch.cuda.is_available():
        versions["gpu"] = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    else:
        versions["gpu"] = "none usable"
    return versions


def render(findings: list[Finding], versions: dict[str, str]) -> str:
    """The table as text."""
    lines = ["environment", *(f"  {name:<24}{value}" for name, value in versions.items())]
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            lines += ["", group]
        details = ", ".join(f"{key}: {value}" for key, value in finding.details.items())
        lines.append(f"  {finding.status:<12}{finding.name:<32}{details}".rstrip())
        lines += [f"              for: {finding.purpose}"]
        if finding.path:
            lines.append(f"              at:  {finding.path}")
        if finding.remedy:
            lines.append(f"              {'get' if finding.status == 'missing' else 'fix'}: {finding.remedy}")
    return "\n".join(lines)


def diagnose(root: Path, hub: Path) -> list[Finding]:
    """Examine everything; see :func:`wanted_files`."""
    return [*(examine(wanted) for wanted in wanted_files(root, hub)), *optional_packages()]


def main() -> int:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    root = Path() if Path.cwd() == ROOT else ROOT  # short paths where they are right
    findings = diagnose(root, Path(torch.hub.get_dir()) / "checkpoints")
    versions = environment()
    if arguments.json:
        print(json.dumps({"environment": versions, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print(render(findings, versions))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
