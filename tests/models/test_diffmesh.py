from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffhmr.body.model import BodyModel
from diffhmr.errors import UserError
from diffhmr.models.diffmesh import (
    DiffMesh,
    DiffMeshEstimate,
    DiffMeshHead,
    DiffMeshSize,
    Variant,
    condition_error,
    template_rows,
)
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from tests.models.formulas import diffmesh_head, randomised
from tests.models.layouts import CHAIN, diffmesh_head_layout
from tests.models.people import random_params

FEATURES = 6
SMALL = DiffMeshSize(features=FEATURES, width=8, depth=2, heads=2, condition_width=16, condition_depth=1)
BACKBONE = DSTformerSize(width=16, hidden=24, depth=1, heads=4, features=FEATURES)
OUTSIDE_THE_CHAIN = {
    "fc_ds.0.weight",
    "fc_ds.0.bias",
    "diffmesh_process.fc1.0.weight",
    "diffmesh_process.fc1.0.bias",
    "head_pose.weight",
    "head_pose.bias",
    "head_shape.weight",
    "head_shape.bias",
}


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


TEMPLATE = _random(23, 3, seed=5)


def _head(variant: Variant = "paper") -> DiffMeshHead:
    head = DiffMeshHead(TEMPLATE, variant, SMALL)
    randomised(head)
    head.mesh_template.copy_(TEMPLATE)
    return head


def _model(variant: Variant) -> DiffMesh:
    """As it starts, not randomised."""
    torch.manual_seed(0)
    return DiffMesh(DSTformer(BACKBONE), DiffMeshHead(TEMPLATE, variant, SMALL))


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_the_parameters_are_those_of_official_files(variant: Variant) -> None:
    with torch.device("meta"):
        head = DiffMeshHead(torch.zeros(6890, 3), variant)
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == diffmesh_head_layout()
    counts = {
        "fc_mesh_temp": 176_784,
        f"{CHAIN}.diffusion_model": 827_392,
        f"{CHAIN}.condition_generator": 1_686_464,
        "diffmesh_process.fc1": 16_512,
        "fc_ds": 65_664,
        "head_pose": 313_488,
        "head_shape": 21_770,
    }
    for name, count in counts.items():
        assert sum(value.numel() for value in head.get_submodule(name).parameters()) == count, name
    assert sum(value.numel() for value in head.parameters()) == sum(counts.values())
    model = DiffMesh(DSTformer(BACKBONE), _head(variant))
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "head"}


def test_rows_of_smpl_are_those_of_the_official_code() -> None:
    template = _random(1, 6890, 3)
    rows = template_rows(template)
    assert rows.shape == (1, 15, 1378)
    assert torch.equal(rows, template.transpose(1, 2).reshape(1, 15, -1))


@pytest.mark.parametrize("vertices", [6890, 7000, 23, 4])
def test_rows_hold_every_coordinate_once_and_do_not_mix_them(vertices: int) -> None:
    template = 2 + _random(vertices, 3)
    rows = template_rows(template)
    assert rows.shape == (15, (vertices + 4) // 5)
    for axis in range(3):
        numbers = rows[5 * axis : 5 * axis + 5].flatten()
        assert torch.equal(numbers[:vertices], template[:, axis])
        assert bool((numbers[vertices:] == 0).all())


def test_the_free_body_fits(free_body: BodyModel) -> None:
    template = free_body.v_template.reshape(3, -1).T
    head = DiffMeshHead(template, "paper", SMALL)
    assert head.mesh_template.shape == (1, free_body.num_vertices, 3)
    estimate = head(_random(1, 16, 17, FEATURES))
    assert estimate.rotations.shape == (1, 16, 24, 3, 3)


def _assert_same(first: DiffMeshEstimate, second: DiffMeshEstimate, atol: float) -> None:
    for name in ("rotations", "betas", "condition", "predicted_condition"):
        one, other = getattr(first, name), getattr(second, name)
        torch.testing.assert_close(one, other, atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@torch.no_grad()
@pytest.mark.parametrize("frames", [16, 1])
@pytest.mark.parametrize("variant", ["released", "paper"])
def test_the_forward_pass_is_the_formula(variant: Variant, frames: int) -> None:
    """Also: the variants do not differ in it, and a single frame is repeated and averaged."""
    head, features = _head(variant), _random(2, frames, 17, FEATURES)
    estimate = head(features)
    assert estimate.rotations.shape == (2, frames, 24, 3, 3)
    assert estimate.condition.shape == estimate.predicted_condition.shape == (2, max(frames - 1, 1), 17, SMALL.width)
    _assert_same(estimate, diffmesh_head(head.state_dict(), features, SMALL), atol=2e-5)


@torch.no_grad()
def test_where_the_chain_starts_decides_the_poses_but_no_condition() -> None:
    """Predicted conditions follow from conditions alone: the state's half of the tokens does not reach the other."""
    head, features = _head(), _random(2, 16, 17, FEATURES)
    before = head(features)
    head.mesh_template.mul_(2)
    moved = head(features)
    assert (moved.rotations - before.rotations).abs().amax(dim=(0, 2, 3, 4)).min().item() > 1e-3
    assert torch.equal(moved.condition, before.condition)
    assert torch.equal(moved.predicted_condition, before.predicted_condition)


@torch.no_grad()
@pytest.mark.parametrize("frames", [16, 1])
def test_clips_one_by_one_or_in_a_batch(frames: int) -> None:
    model = DiffMesh(DSTformer(BACKBONE), _head()).eval()
    randomised(model.backbone)
    x = _random(3, frames, 17, 3)
    together = model(x)
    assert together.params.shape == (3, frames)
    for i in range(3):
        one = {name: getattr(together, name)[i : i + 1] for name in DiffMeshEstimate.__dataclass_fields__}
        _assert_same(model(x[i : i + 1]), DiffMeshEstimate(**one), atol=1e-5)


def test_the_condition_error_is_a_mean_distance() -> None:
    target = torch.zeros(2, 15, 17, 4)
    predicted = torch.zeros(2, 15, 17, 4)
    predicted[0, 3, 2, 1], predicted[0, 3, 8, 0], predicted[1, 0, 0, 0] = 3, 4, 10
    estimate = DiffMeshEstimate(torch.zeros(2, 16, 24, 3, 3), torch.zeros(2, 10), target, predicted)
    assert condition_error(estimate).item() == pytest.approx((5 + 10) / 30)


def _backward(model: DiffMesh, frames: int) -> None:
    """One step's gradients: rotations, shape and, with the official weight, the conditions."""
    target, _ = random_params(2 * frames, 0)
    estimate = model(_random(2, frames, 17, 3))
    rotations = target.rotations.reshape(2, frames, 24, 3, 3)
    loss = 1000 * (estimate.rotations - rotations).abs().mean() + (estimate.betas - target.betas[:2]).abs().mean()
    (loss + 0.001 * condition_error(estimate)).backward()


def _learning(model: nn.Module) -> set[str]:
    """Names of the parameters with a gradient, each of them finite and not zero."""
    names = set()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert bool(torch.isfinite(parameter.grad).all()), name
            assert parameter.grad.abs().max().item() > 0, name
            names.add(name)
    return names


@pytest.mark.parametrize("frames", [16, 1])
def test_every_trainable_parameter_of_the_paper_variant_learns(frames: int) -> None:
    model = _model("paper")
    _backward(model, frames)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    everything = {name for name, _ in model.named_parameters()}
    assert everything - trainable == {"backbone.head.weight", "backbone.head.bias"}
    assert _learning(model) == trainable
    # One step moves each of them.
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=1e3).step()
    assert {name for name, value in model.named_parameters() if not torch.equal(value, before[name])} == trainable


def test_the_chain_of_the_released_variant_does_not_learn() -> None:
    model = _model("released")
    _backward(model, 16)
    backbone = {name for name, _ in model.named_parameters() if name.startswith("backbone.")}
    expected = {f"head.{name}" for name in OUTSIDE_THE_CHAIN}
    expected |= backbone - {"backbone.head.weight", "backbone.head.bias"}
    assert _learning(model) == expected
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == expected
    # Not only are the chain's own parameters left out: nothing of what comes before it learns through it.
    estimate = model.head(_random(1, 16, 17, FEATURES).requires_grad_())
    assert not estimate.predicted_condition.requires_grad
    assert estimate.condition.requires_grad


def test_the_variants_differ_in_gradients_only() -> None:
    released, paper = _model("released"), _model("paper")
    paper.load_state_dict(released.state_dict())
    x = _random(2, 16, 17, 3)
    _assert_same(released(x), paper(x), atol=1e-6)
    _backward(released, 16)
    _backward(paper, 16)
    first, second = released.head.fc_ds[0].weight.grad, paper.head.fc_ds[0].weight.grad
    assert first is not None
    assert second is not None
    assert not torch.allclose(first, second, rtol=1e-3)


def test_the_head_runs_in_float32() -> None:
    head, features = _head(), _random(1, 16, 17, FEATURES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate = head(features.to(torch.bfloat16))
    assert estimate.rotations.dtype == estimate.predicted_condition.dtype == torch.float32
    _assert_same(estimate, head(features.to(torch.bfloat16).float()), atol=0)


def test_what_does_not_fit_is_refused() -> None:
    model = _model("paper")
    assert model.frames == 16
    for frames in (0, 2, 15, 17, 32):
        with pytest.raises(UserError, match=f"16 frames, or single ones, not {frames}"):
            model(torch.zeros(1, frames, 17, 3))
    with pytest.raises(UserError, match="unknown variant 'ours'"):
        DiffMeshHead(TEMPLATE, "ours", SMALL)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least 2 frames"):
        replace(SMALL, frames=1)
