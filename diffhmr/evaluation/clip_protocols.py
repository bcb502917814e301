"""The built-in protocols for sequences: named, versioned terms, so that a number says what it is.

Whole sequences are measured, their ends included. The protocols of MotionBERT and DiffMesh, which measure clips of 16
frames and drop what is left of each sequence, stand beside them under names that say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from diffhmr.body.joints import JOINT_SETS, JointSet
from diffhmr.errors import UserError
from diffhmr.evaluation.terms import TruthBody, regressors_of

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
        files: where the file can be below ``data/``; the first that exists is read. Empty: made on demand.
        subset: another joint set, whose MPJPE and PA-MPJPE are measured too; empty: none.
        clip_length: sequences are cut into clips of so many frames, each answered and measured for itself, and what
            is left at the end is dropped. None: whole sequences.
        resolution: of pickles of MotionBERT: all pictures count as squares of this side; None: what the file says.
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
        if self.subset:
            described["subset"] = f"mpjpe_14_mm and pa_mpjpe_14_mm are of {self.subset}"
        return described


def _on_free_body(protocol: ClipProtocol) -> ClipProtocol:
    return replace(protocol, name=f"{protocol.name}-free-body", truth_body="model")


def _cut(protocol: ClipProtocol) -> ClipProtocol:
    return replace(protocol, name=f"{protocol.name}-clips16", clip_length=16, source=protocol.source.split(", but")[0])


_H36M_ROOT = ("pelvis_h36m17",)
_MOTIONBERT = (
    "MotionBERT (Zhu et al., ICCV 2023), DiffMesh (Zheng et al., WACV 2025), but whole sequences instead of clips of 16"
)

SYNTHETIC_MOTION = ClipProtocol(
    name="synthetic-motion",
    dataset="synthetic-motion",
    source="this project",
    joint_set="H36M17",
    root=_H36M_ROOT,
    truth_body="model",
)
_THREEDPW_GENDERED = ClipProtocol(
    name="3dpw-video-gendered14",
    dataset="3dpw-video",
    source="VIBE (Kocabas et al., CVPR 2020), WHAM (Shin et al., CVPR 2024)",
    joint_set="J14_H36M",
    root=("right_hip_h36m17", "left_hip_h36m17"),
    truth_body="gendered",
    files=("3dpw/test.npz",),
)
_THREEDPW_NEUTRAL = ClipProtocol(
    name="3dpw-video-neutral17",
    dataset="3dpw-video",
    source=_MOTIONBERT,
    joint_set="H36M17",
    root=_H36M_ROOT,
    truth_body="neutral",
    files=("mesh/mesh_det_pw3d.pkl", "3dpw/test.npz"),
    subset="J14_H36M",
    resolution=1920,
)
_H36M_NEUTRAL = replace(
    _THREEDPW_NEUTRAL,
    name="h36m-video-neutral17",
    dataset="h36m-video",
    files=("mesh/mesh_det_h36m.pkl",),
    resolution=None,
)
_ON_SMPL = (
    _THREEDPW_GENDERED,
    _THREEDPW_NEUTRAL,
    _cut(_THREEDPW_NEUTRAL),
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
    theirs = [protocol for protocol in _ALL if protocol.dataset == dataset]
    if not theirs:
        raise UserError(f"unknown data set of clips {dataset!r}; choose one of {', '.join(CLIP_DATASETS)}")
    if name is None:
        return theirs[0]
    for protocol in theirs:
        if name in (protocol.name, protocol.full_name):
            return protocol
    known = ", ".join(protocol.name for protocol in theirs)
    raise UserError(f"{dataset} has no protocol {name!r}; choose one of {known}")
