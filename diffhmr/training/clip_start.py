"""Where the network of a training on clips starts: the weights of another network, whatever its task was."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path

from diffhmr.errors import UserError
from diffhmr.models.diffmesh import DiffMesh
from diffhmr.models.dstformer import DSTformer
from diffhmr.models.motion_diffusion import MotionDiffusion
from diffhmr.models.motion_heads import MotionBertAction
from diffhmr.models.motion_refine import DiffMeshRefine
from diffhmr.motion_checkpoint import MotionModel, load_motion_model, read_motion_metadata

_log = logging.getLogger(__name__)


def load_start(path: Path, network: MotionModel, with_head: bool = True) -> None:
    """Give ``network`` the backbone of a motion model file, and the head too if it is of the same kind and sizes.

    Args:
        path: of the file; it may hold a network of any task.
        network: takes the weights.
        with_head: False: the backbone only, whatever the head in the file is.

    Raises:
        UserError: the file cannot be used, or its backbone has other sizes.
    """
    given = load_motion_model(path)
    own_backbone, backbone = _backbone_of(network), _backbone_of(given)
    for field in fields(own_backbone.size):
        there, here = getattr(backbone.size, field.name), getattr(own_backbone.size, field.name)
        if there != here:
            raise UserError(
                f"the backbone in {path} has {field.name} {there}, this run wants model.backbone.{field.name}={here}: "
                f"set it to {there} or give another init"
            )
    own_backbone.load_state_dict(backbone.state_dict())
    if not with_head or given is backbone or network is own_backbone:
        _log.info("starting with the backbone of %s", path)
    elif _alike(given, network):
        network.load_state_dict(given.state_dict())
        _log.info("starting with backbone and head of %s", path)
        if isinstance(given, MotionBertAction) and "config" not in read_motion_metadata(path):
            _log.warning(
                "the weights of %s learned with confidences in COCO's order; here every joint has its own, to which "
                "they must get used: measure official weights as they are, before a training",
                path,
            )
    else:
        _log.info("starting with the backbone of %s; its head is of another kind or size and is not used", path)


def _backbone_of(network: MotionModel) -> DSTformer:
    return network if isinstance(network, DSTformer) else network.backbone


def _alike(first: MotionModel, second: MotionModel) -> bool:
    """The weights of one mean the same in the other. The variants of DiffMesh differ in their training only."""
    if isinstance(first, MotionDiffusion) and isinstance(second, MotionDiffusion) and first.size != second.size:
        return False
    chains = [network.head.size for network in (first, second) if isinstance(network, DiffMesh | DiffMeshRefine)]
    if len(chains) == 2 and chains[0] != chains[1]:
        return False
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in (first, second)]
    return type(first) is type(second) and shapes[0] == shapes[1]
