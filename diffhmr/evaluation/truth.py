"""The ground truth of a protocol: joints, roots and meshes of the labels on the right bodies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffhmr.batch import Targets
from diffhmr.body.files import SMPL_NUM_VERTICES, find_smpl
from diffhmr.body.joints import SPIN49, JointSet, extended
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.evaluation.terms import EvaluationProtocol, TruthBody, TruthTerms, stored_slots

JOINTS_AT_ONCE = 1664
"""Bodies whose joints are computed at once."""


@dataclass(frozen=True)
class Bodies:
    """The bodies of an evaluation, all of one mesh and on one device.

    Attributes:
        prediction: of the model.
        truth: by gender, "neutral" for the truth on neutral SMPL; those that the protocol needs.
    """

    prediction: BodyModel
    truth: dict[str, BodyModel]

    def __post_init__(self) -> None:
        for gender, body in self.truth.items():
            if body.num_vertices != self.prediction.num_vertices:
                raise UserError(
                    f"the {gender} body {body.path} has {body.num_vertices} vertices, that of the model "
                    f"{self.prediction.num_vertices}: give bodies of one kind"
                )


def genders_of(truth_body: TruthBody | None) -> tuple[str, ...]:
    """Which bodies the truth needs besides the model's own."""
    return {"gendered": ("male", "female"), "neutral": ("neutral",)}.get(truth_body or "", ())


def find_bodies(protocol: TruthTerms, prediction: BodyModel) -> Bodies:
    """The bodies that ``protocol`` needs, from ``data/body/``.

    Raises:
        UserError: one is missing, with where to get it; or the protocol is about SMPL and the model has another body.
    """
    if protocol.needs_smpl and not prediction.is_smpl:
        raise UserError(
            f"{protocol.full_name} measures on SMPL, but the body of the model is '{prediction.name}': give a "
            f"checkpoint of an SMPL body, or measure with --protocol {protocol.name}-free-body, whose numbers are "
            "not comparable with published ones"
        )
    truth = {}
    for gender in genders_of(protocol.truth_body):
        own = gender == "neutral"  # a model of SMPL predicts neutral bodies
        body = prediction if own else BodyModel.load(find_smpl(gender)).to(prediction.v_template.device)  # type: ignore[arg-type]
        if body.num_vertices != SMPL_NUM_VERTICES:
            raise UserError(f"{body.path} is not SMPL: it has {body.num_vertices} vertices")
        truth[gender] = body
    return Bodies(prediction, truth)


@dataclass(frozen=True)
class Points:
    """Joints of a protocol.

    Attributes:
        joints: ``[..., J, 3]`` of the protocol's set.
        root: ``[..., 3]``.
        spin49: ``[..., 49, 3]``, or None where nobody asked.
    """

    joints: Tensor
    root: Tensor
    spin49: Tensor | None = None

    def part(self, people: slice) -> Points:
        """Joints and roots of some of the people."""
        return Points(self.joints[people], self.root[people])


def predicted_points(protocol: EvaluationProtocol, body: BodyModel, params: SmplParams) -> Points:
    """Joints of the prediction ``params [...]``."""
    spin49 = body_joints(body, params, SPIN49)
    names, root = protocol.joints.joint_names, protocol.root
    if set(names) | set(root) <= set(SPIN49.joint_names[25:]):
        joints, at = spin49[..., list(stored_slots(names)), :], spin49[..., list(stored_slots(root)), :]
        return Points(joints, mean_root(at), spin49)
    own = body_joints(body, params, extended(protocol.joints, root))
    return Points(own[..., : len(names), :], mean_root(own[..., len(names) :, :]), spin49)


def true_points(protocol: EvaluationProtocol, bodies: Bodies, targets: Targets) -> Points:
    """Joints of the truth.

    Raises:
        UserError: people lack what the protocol measures.
    """
    root = protocol.truth_root or protocol.root
    if protocol.stored:
        slots, root_slots = stored_slots(protocol.truth_joints), stored_slots(root)
        needed = targets.joints3d[:, [*slots, *root_slots]]
        _require(protocol, "3D joints", (needed[..., 3] > 0).all(1))
        return Points(needed[:, : len(slots), :3], mean_root(needed[:, len(slots) :, :3]))
    joint_set = extended(protocol.truth_joints, root)
    joints = on_bodies(protocol, bodies, targets, lambda body, params: body.joints(params, joint_set))
    count = len(protocol.truth_joints)
    return Points(joints[:, :count], mean_root(joints[:, count:]))


def true_meshes(protocol: EvaluationProtocol, bodies: Bodies, targets: Targets, part: slice) -> tuple[Tensor, Tensor]:
    """Vertices ``[P, V, 3]`` of the people in ``part``, and the root ``[P, 3]`` of their bodies' joints."""

    own_root = extended(None, protocol.root)

    def root(body: BodyModel, params: SmplParams) -> Tensor:
        return mean_root(body.joints(params, own_root))

    vertices = on_bodies(protocol, bodies, targets, lambda body, params: body(params).vertices, part)
    return vertices, on_bodies(protocol, bodies, targets, root, part)


def on_bodies(
    protocol: EvaluationProtocol,
    bodies: Bodies,
    targets: Targets,
    function: Callable[[BodyModel, SmplParams], Tensor],
    part: slice = slice(None),
) -> Tensor:
    """``function`` of the labelled parameters of the people in ``part``, each on the body that the protocol says.

    Raises:
        UserError: people without parameters, or without a gender where it matters.
    """
    _require(protocol, "SMPL parameters", targets.has_params)
    gender = None if targets.gender is None else targets.gender[part]
    return params_on_bodies(protocol, bodies, targets.params.map(lambda value: value[part]), gender, function)


def params_on_bodies(
    protocol: TruthTerms,
    bodies: Bodies,
    params: SmplParams,
    gender: Tensor | None,
    function: Callable[[BodyModel, SmplParams], Tensor],
) -> Tensor:
    """``function`` of labelled parameters ``[B, ...]``, each on the body that the protocol says.

    Args:
        gender: ``[B]``: 0 male, 1 female, -1 unknown; None if the labels do not say.

    Raises:
        UserError: people without a gender where it matters.
    """
    if protocol.truth_body != "gendered":
        neutral = protocol.truth_body == "neutral"
        return function(bodies.truth["neutral"] if neutral else bodies.prediction, params)
    if gender is None:
        raise UserError(f"{protocol.full_name} needs the people's gender, which the labels do not say")
    _require(protocol, "a gender", gender >= 0)
    result: Tensor | None = None
    for code, name in enumerate(("male", "female")):
        rows = (gender == code).nonzero().squeeze(-1)
        if len(rows):
            values = function(bodies.truth[name], params.map(lambda value, rows=rows: value[rows]))  # type: ignore[misc]
            if result is None:
                result = values.new_empty(len(gender), *values.shape[1:])
            result[rows] = values
    assert result is not None
    return result


def body_joints(body: BodyModel, params: SmplParams, joint_set: JointSet) -> Tensor:
    """``body.joints``, for a bounded number of bodies at a time."""
    lead = params.shape
    flat = params.map(lambda value: value.flatten(0, len(lead) - 1)) if lead else params
    if not lead or lead.numel() <= JOINTS_AT_ONCE:
        return body.joints(params, joint_set)
    pieces = [
        body.joints(flat.map(lambda value, start=start: value[start : start + JOINTS_AT_ONCE]), joint_set)  # type: ignore[misc]
        for start in range(0, lead.numel(), JOINTS_AT_ONCE)
    ]
    return torch.cat(pieces).unflatten(0, lead)


def mean_root(joints: Tensor) -> Tensor:
    """Root ``[..., 3]``, the mean of ``joints [..., R, 3]``."""
    return joints[..., 0, :] if joints.shape[-2] == 1 else joints.mean(-2)


def _require(protocol: TruthTerms, what: str, known: Tensor) -> None:
    if not bool(known.all()):
        lacking = int((~known).sum())
        raise UserError(
            f"the data set has people without {what} ({lacking} of {len(known)} in a batch), which "
            f"{protocol.full_name} needs; evaluate on one that labels them all"
        )
