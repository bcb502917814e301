"""The built-in protocols for sequences: named, versioned terms, so that a number says what it is.

Whole sequences are measured, their ends included. The protocols of MotionBERT and DiffMesh, which measure clips of 16
frames and drop what is left of each sequence, stand beside them under names that say so. So do those of the same
measures on another kind of file: what is detected and where sequences begin is part of a protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffhmr.body.joints import JOINT_SETS, JointSet
from diffhmr.evaluation.terms import TruthBody, find_among, regressors_of

MIN_OF = (1, 5, 10, 25)


@dataclass(frozen=True)
class ClipProtocol:
    """One way to measure models of clips on a data set.

    Attributes:
        name: as on the command line.
        dataset: as on the command line.
        source: the work whose convention it is.
        joint_set: what is measured, a name of ``JOINT_SETS``.
        root: joints whose mean is the root, of the prediction and of the truth.
        truth_body: on which body the labelled parameters are put.
        files: where the file can be below ``data/``; the first that exists is read. All are of one kind: ``.npz`` label
            files, or pickles of MotionBERT's format. Empty: made on demand.
        subset: another joint set, whose MPJPE and PA-MPJPE are measured too; empty: none.
        clip_length: sequences are cut into clips of so many frames, each answered and measured for itself, and what
            is left at the end is dropped. None: whole sequences.
        resolution: for the keypoints of the networks of clips all pictures count as squares of this side, from either
            kind of file; None: what the file says.
        num_samples: random motions per sequence of stochastic models, unless the command line says otherwise.
        version: goes up when anything that moves a number changes.
    """

    name: str
    dataset: str
    source: str
    joint_set: str
    root: tuple[str, ...]
    truth_body: TruthBody
    files: tuple[str, ...] = ()
    subset: str = ""
    clip_length: int | None = None
    resolution: int | None = None
    num_samples: int = 10
    version: int = 1

    @property
    def full_name(self) -> str:
        """With the version."""
        return f"{self.name}-v{self.version}"

    @property
    def joints(self) -> JointSet:
        """What is measured."""
        return JOINT_SETS[self.joint_set]

    @property
    def reads_labels(self) -> bool:
        """It measures on label files; else on pickles of MotionBERT's format, or on no file."""
        return any(is_label_file(name) for name in self.files)

    @property
    def needs_smpl(self) -> bool:
        """Labelled parameters are those of SMPL: on another body they would mean another person."""
        return self.truth_body in ("gendered", "neutral")

    def regressors(self) -> tuple[str, ...]:
        """Names of the files with the joint regressors of what is measured."""
        subset = JOINT_SETS[self.subset].joint_names if self.subset else ()
        return regressors_of((*self.joints.joint_names, *self.root, *subset))

    def describe(self) -> dict[str, Any]:
        """Everything that does not depend on the files at hand, as JSON values."""
        bodies = {
            "gendered": "SMPL of the person's gender",
            "neutral": "neutral SMPL",
            "model": "the body of the model"
            if not self.files
            else "the body of the model for all genders: NOT comparable with results on SMPL",
        }
        described: dict[str, Any] = {
            "name": self.full_name,
            "source": self.source,
            "joint_set": self.joint_set,
            "root": f"mean of {', '.join(self.root)}, of the prediction and of the truth",
            "truth": f"parameters on {bodies[self.truth_body]}",
            "sequences": "whole, with their ends"
            if self.clip_length is None
            else f"cut into clips of {self.clip_length} frames that do not overlap; what is left at the end is dropped",
            "averages": "over all measured frames of all sequences; over all hypotheses for random",
            "alignment": {
                "mpjpe_mm": "root",
                "pa_mpjpe_mm": "similarity with scale, per frame and hypothesis",
                "mpvpe_mm": "root joint, all vertices",
            },
            "acceleration": "second differences of the joints relative to the root, of all moments that have the frame "
            "before and the frame after; per frame squared, and per second squared with the sequence's frame rate",
            "mode": "the single answer; not counted among the samples",
            "mean_of_samples": "error of the mean of the root-aligned points of the random samples",
            "random": "mean error of the random samples",
            "min_of": "uses ground truth to choose: minimum per metric and frame over n random samples, expectation "
            "over all subsets",
            "min_of_sequence": "the same with one sample chosen for the whole sequence by its mean error",
            "energy_score_mm": f"mean over the joints of {self.joint_set}; equals MPJPE for a single answer",
            "spread_mm": "distance of a joint, relative to the root, to the mean of the random samples; the root "
            "itself is left out; hidden joints are those that cannot be seen, hidden frames those with such a joint; "
            "for HuManiFlow elbows, wrists, knees and ankles alone can be hidden, all other joints are visible",
        }
        if self.files:
            described["file"] = kind_of_file(labels=self.reads_labels)
            described["pictures"] = (
                "the middle and half the shorter side of each become 0 and 1"
                if self.resolution is None
                else f"count as squares of {self.resolution} px: x / {self.resolution / 2:g} - 1, likewise y"
            )
        if self.subset:
            described["subset"] = f"mpjpe_14_mm and pa_mpjpe_14_mm are of {self.subset}"
        return described


def is_label_file(path: str | Path) -> bool:
    """Whether this is the name of a label file, and not of a pickle of MotionBERT's format."""
    return Path(path).suffix == ".npz"


def kind_of_file(*, labels: bool) -> str:
    """In words."""
    return "a label file (.npz)" if labels else "a pickle of MotionBERT's format (mesh_det)"


def _on_free_body(protocol: ClipProtocol) -> ClipProtocol:
    return replace(protocol, name=f"{protocol.name}-free-body", truth_body="model")


def _cut(protocol: ClipProtocol) -> ClipProtocol:
    source = protocol.source.replace(_WHOLE, "")
    return replace(protocol, name=f"{protocol.name}-clips16", clip_length=16, source=source)


_H36M_ROOT = ("pelvis_h36m17",)
_WHOLE = ", but whole sequences instead of clips of 16"
_MOTIONBERT = f"MotionBERT (Zhu et al., ICCV 2023), DiffMesh (Zheng et al., WACV 2025){_WHOLE}"

SYNTHETIC_MOTION = ClipProtocol(
    name="synthetic-motion",
    dataset="synthetic-motion",
    source="this project",
    joint_set="H36M17",
    root=_H36M_ROOT,
    truth_body="model",
)
_LABELS_OF_3DPW = "3dpw/test.npz"
_RESOLUTION_OF_3DPW = 1920
"""The pictures have 1920 x 1080 or 1080 x 1920 px; MotionBERT and DiffMesh normalise all of them so."""

_THREEDPW_GENDERED = ClipProtocol(
    name="3dpw-video-gendered14",
    dataset="3dpw-video",
    source="VIBE (Kocabas et al., CVPR 2020), WHAM (Shin et al., CVPR 2024)",
    joint_set="J14_H36M",
    root=("right_hip_h36m17", "left_hip_h36m17"),
    truth_body="gendered",
    files=(_LABELS_OF_3DPW,),
    resolution=_RESOLUTION_OF_3DPW,
    version=2,
)
_THREEDPW_NEUTRAL = ClipProtocol(
    name="3dpw-video-neutral17",
    dataset="3dpw-video",
    source=_MOTIONBERT,
    joint_set="H36M17",
    root=_H36M_ROOT,
    truth_body="neutral",
    files=("mesh/mesh_det_pw3d.pkl",),
    subset="J14_H36M",
    resolution=_RESOLUTION_OF_3DPW,
    version=2,
)
_THREEDPW_NEUTRAL_LABELS = replace(
    _THREEDPW_NEUTRAL,
    name="3dpw-video-neutral17-labels",
    source=f"{_MOTIONBERT}; the detections and sequences of label files: NOT comparable with results on theirs",
    files=(_LABELS_OF_3DPW,),
    version=1,
)
_H36M_NEUTRAL = replace(
    _THREEDPW_NEUTRAL,
    name="h36m-video-neutral17",
    dataset="h36m-video",
    files=("mesh/mesh_det_h36m.pkl",),
    resolution=None,
    version=1,
)
_ON_SMPL = (
    _THREEDPW_GENDERED,
    _THREEDPW_NEUTRAL,
    _cut(_THREEDPW_NEUTRAL),
    _THREEDPW_NEUTRAL_LABELS,
    _cut(_THREEDPW_NEUTRAL_LABELS),
    _H36M_NEUTRAL,
    _cut(_H36M_NEUTRAL),
)
_ALL = (SYNTHETIC_MOTION, *_ON_SMPL, *(_on_free_body(protocol) for protocol in _ON_SMPL))

CLIP_PROTOCOLS: Mapping[str, ClipProtocol] = {protocol.name: protocol for protocol in _ALL}
"""By name; the first of a data set is its default."""

CLIP_DATASETS = tuple(dict.fromkeys(protocol.dataset for protocol in _ALL))


def find_clip_protocol(dataset: str, name: str | None = None) -> ClipProtocol:
    """The protocol ``name`` of ``dataset``, with or without its version; None: the default one.

    Raises:
        UserError: there is no such data set, or it has no such protocol.
    """
    return find_among(_ALL, dataset, name, "data set of clips")


def on_other_files(protocol: ClipProtocol) -> ClipProtocol | None:
    """The protocol with the same measures on the other kind of file, if there is one."""
    alike: dict[str, Any] = {"name": "", "source": "", "files": (), "version": 0}
    for other in _ALL:
        if other.reads_labels != protocol.reads_labels and replace(other, **alike) == replace(protocol, **alike):
            return other
    return None
