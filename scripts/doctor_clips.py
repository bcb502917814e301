"""What the doctor says about files of clips: those of MotionBERT and DiffMesh, and what AMASS was made into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from diffhmr.datasets.clip_files.instavariety import read_instavariety
from diffhmr.datasets.official_noise import read_confidences, read_displacements
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.protocols import CLIP_PROTOCOLS
from diffhmr.evaluation.tasks.protocols import TASK_PROTOCOLS
from scripts.doctor_wanted import Details, Incomplete, Wanted
from scripts.prepare_amass import SPLITS, TRAIN, Amass
from scripts.prepare_motion3d import MotionClips, read_meta

GROUP = "clips"
MOTIONBERT = "https://github.com/Walter0807/MotionBERT/blob/main/docs"
PARAMETERS = "https://github.com/Walter0807/MotionBERT/tree/main/params"
PYSKL = "https://download.openmmlab.com/mmaction/pyskl/data/nturgbd"

_MESH = "training and evaluation of meshes of clips (task: mesh)"
_LIFTING = "training and evaluation of 3D poses (task: pose3d)"
_ACTION = "training and evaluation of actions (task: action)"
_PRETRAINING = "pretraining (task: pretrain)"
# Below data/: what it is for, and where to get it.
_PICKLES = {
    "mesh/mesh_det_h36m.pkl": (_MESH, f"{MOTIONBERT}/mesh.md"),
    "mesh/mesh_det_coco.pkl": (_MESH, f"{MOTIONBERT}/mesh.md"),
    "mesh/mesh_det_pw3d.pkl": (_MESH, f"{MOTIONBERT}/mesh.md"),
    "motion3d/h36m_sh_conf_cam_source_final.pkl": (_LIFTING, f"{MOTIONBERT}/pose3d.md"),
    "action/ntu60_hrnet.pkl": (_ACTION, f"{PYSKL}/ntu60_hrnet.pkl"),
    "action/ntu120_hrnet.pkl": (_ACTION, f"{PYSKL}/ntu120_hrnet.pkl"),
}


def wanted_clips(data: Path) -> Iterator[Wanted]:
    """All files of clips below the folder ``data``."""
    for name, (purpose, page) in _PICKLES.items():
        use = "; ".join(filter(None, (purpose, evaluation(protocols_of_clips(name)))))
        yield Wanted(GROUP, name, use, _download(page, data / name), (data / name,), inspect_pickle)
    for split in (TRAIN, *SPLITS):
        path = data / MotionClips.name / "AMASS" / f"{split}.json"
        raw = data / "raw" / Amass.name
        command = f"`python -m scripts.prepare_motion3d --root {raw} --splits {split}`"
        remedy = f"unpack the release of {MotionClips.source} into {raw}, then {command}"
        if path.exists():
            remedy = f"if need be, delete {path} and make it again: {command}"
        name = path.relative_to(data).as_posix()
        yield Wanted(GROUP, name, _PRETRAINING, remedy, (path,), inspect_motions)
    folders: dict[str, tuple[str, Callable[[Path], Details]]] = {
        "motion2d/posetrack18_annotations": ("https://mmpose.readthedocs.io", partial(inspect_folder, suffix=".json")),
        "motion2d/InstaVariety": (f"{MOTIONBERT}/pretrain.md", inspect_instavariety),
        "motion2d/synthetic_noise.pth": (PARAMETERS, inspect_noise),
        "motion2d/d2c_params.pkl": (PARAMETERS, inspect_confidences),
    }
    for name, (page, inspect) in folders.items():
        yield Wanted(GROUP, name, _PRETRAINING, _download(page, data / name), (data / name,), inspect)


def protocols_of_clips(name: str) -> list[str]:
    """The protocols for sequences, lifting and actions that read the file ``name`` below ``data/``."""
    return [
        protocol.name
        for protocol in (*CLIP_PROTOCOLS.values(), *TASK_PROTOCOLS.values())
        if name in protocol.files and not protocol.name.endswith("-free-body")
    ]


def evaluation(names: Sequence[str]) -> str:
    """What the protocols ``names`` make of a file, in words; empty if there are none."""
    return f"evaluation: {', '.join(names)}" if names else ""


def _download(page: str, path: Path) -> str:
    source = page if page.endswith(path.suffix or "/") else f"it as {page} says"
    return f"download {source} and put it at {path}"


def inspect_pickle(path: Path) -> Details:
    """Its size. What is inside is checked when it is used: reading gigabytes takes long.

    Raises:
        UserError: it is no pickle or not whole.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file")
    size = path.stat().st_size
    with open(path, "rb") as stream:
        stream.seek(max(size - 1, 0))
        if stream.read() != b".":  # as every pickle ends
            raise UserError(f"{path} is cut off or no pickle")
    return {"megabytes": round(size / 1e6)}


def inspect_motions(path: Path) -> Details:
    """Number of clips.

    Raises:
        UserError: the file is not of this project.
        Incomplete: clips are missing, or it was made of a part of the release.
    """
    clips, meta = read_meta(path)
    details: Details = {"clips": clips}
    there = len(list(path.with_suffix("").glob("*.pkl")))
    if there != clips:
        raise Incomplete(details, f"{path.with_suffix('')} has {there} clips instead of {clips}")
    if meta.get("partial"):
        raise Incomplete(details, "made of a part of the release only: complete it")
    return details


def inspect_folder(path: Path, suffix: str) -> Details:
    """Number of files.

    Raises:
        UserError: there are none.
    """
    count = len(list(path.rglob(f"*{suffix}"))) if path.is_dir() else 0
    if not count:
        raise UserError(f"{path} has no {suffix} files")
    return {"files": count}


def inspect_instavariety(path: Path) -> Details:
    """Number of frames and videos.

    Raises:
        UserError: it is damaged or incomplete.
    """
    frames = read_instavariety(path, "train")
    return {"frames": len(frames.keypoints), "videos": len(frames.videos)}


def inspect_noise(path: Path) -> Details:
    """Number of joints.

    Raises:
        UserError: it is damaged or something else.
    """
    return {"joints": len(read_displacements(path)[0]["weight"])}


def inspect_confidences(path: Path) -> Details:
    """Its numbers.

    Raises:
        UserError: it is damaged or something else.
    """
    return dict(read_confidences(path))
