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
from tests.models.formulas import (
    State,
    attention,
    attention_weights,
    gelu,
    heads_of,
    layer_norm,
    linear,
    mlp,
    randomised,
    rotation_from_interleaved,
)
from tests.models.people import random_params

FEATURES = 6
SMALL = DiffMeshSize(features=FEATURES, width=8, depth=2, heads=2, condition_width=16, condition_depth=1)
BACKBONE = DSTformerSize(width=16, hidden=24, depth=1, heads=4, features=FEATURES)
PROCESS = "diffmesh_process.entire_process"
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


def _official_layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the official head but for the buffers of its body model."""
    layout: dict[str, tuple[int, ...]] = {
        "mesh_template": (1, 6890, 3),
        "init_pose": (1, 144),
        "init_shape": (1, 10),
        "fc_mesh_temp.2.weight": (17, 15, 1),
        "fc_mesh_temp.2.bias": (17,),
        f"{PROCESS}.condition_generator.pos_embed": (1, 30, 256),
    }

    def layer(name: str, out: int, width: int) -> None:
        layout.update({f"{name}.weight": (out, width), f"{name}.bias": (out,)})

    def norm(name: str, width: int) -> None:
        layout.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    for name, out, width in (
        ("fc_ds.0", 128, 512),
        ("fc_mesh_temp.0", 128, 1378),
        ("head_pose", 144, 2176),
        ("head_shape", 10, 2176),
        ("diffmesh_process.fc1.0", 128, 128),
        (f"{PROCESS}.diffusion_model.temb_fc.0", 128, 128),
        (f"{PROCESS}.diffusion_model.temb_fc.2", 128, 128),
        (f"{PROCESS}.condition_generator.fc1.0", 256, 2176),
        (f"{PROCESS}.condition_generator.fc2.0", 2176, 256),
    ):
        layer(name, out, width)
    norm(f"{PROCESS}.diffusion_model.diffmodel_encoder.norm", 128)
    norm(f"{PROCESS}.condition_generator.norm", 256)
    for i in range(4):
        block = f"{PROCESS}.diffusion_model.diffmodel_encoder.blocks.{i}"
        for half in ("diff", "cond"):
            layer(f"{block}.attn.qkv_{half}", 384, 128)
            layer(f"{block}.attn.proj_{half}", 128, 128)
        layer(f"{block}.mlp.fc1", 256, 128)
        layer(f"{block}.mlp.fc2", 128, 256)
        norm(f"{block}.norm1", 128)
        norm(f"{block}.norm2", 128)
    for i in range(2):
        block = f"{PROCESS}.condition_generator.blocks.{i}"
        layer(f"{block}.attn.qkv", 768, 256)
        layer(f"{block}.attn.proj", 256, 256)
        layer(f"{block}.mlp.fc1", 32, 256)
        layer(f"{block}.mlp.fc2", 256, 32)
        norm(f"{block}.norm1", 256)
        norm(f"{block}.norm2", 256)
    return layout


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_the_parameters_are_those_of_official_files(variant: Variant) -> None:
    with torch.device("meta"):
        head = DiffMeshHead(torch.zeros(6890, 3), variant)
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == _official_layout()
    counts = {
        "fc_mesh_temp": 176_784,
        f"{PROCESS}.diffusion_model": 827_392,
        f"{PROCESS}.condition_generator": 1_686_464,
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


def _step_network(state: State, current: Tensor, condition: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """One call of the diffusion network: ``[B, 17, D]`` each."""
    name = f"{PROCESS}.diffusion_model"
    half = SMALL.width // 2
    angles = t * 10000.0 ** (-torch.arange(half) / (half - 1))
    time = torch.cat([torch.sin(angles), torch.cos(angles)])
    time = linear(state, f"{name}.temb_fc.2", gelu(linear(state, f"{name}.temb_fc.0", time)))
    x, c = current + time, condition + time
    for i in range(SMALL.depth):
        block = f"{name}.diffmodel_encoder.blocks.{i}"
        query_x, key_x, value_x = heads_of(
            linear(state, f"{block}.attn.qkv_diff", layer_norm(state, f"{block}.norm1", x)), SMALL.heads
        )
        query_c, key_c, value_c = heads_of(
            linear(state, f"{block}.attn.qkv_cond", layer_norm(state, f"{block}.norm1", c)), SMALL.heads
        )
        of_x = torch.einsum("bhnm,bmhc->bnhc", attention_weights(query_x, key_x), value_x).flatten(2)
        of_x = linear(state, f"{block}.attn.proj_diff", of_x).unflatten(-1, (SMALL.heads, -1))
        weights = attention_weights(query_c, key_c)
        x = x + torch.einsum("bhnm,bmhc->bnhc", weights, of_x).flatten(2)
        c = c + linear(state, f"{block}.attn.proj_cond", torch.einsum("bhnm,bmhc->bnhc", weights, value_c).flatten(2))
        x = x + mlp(state, f"{block}.mlp", layer_norm(state, f"{block}.norm2", x))
        c = c + mlp(state, f"{block}.mlp", layer_norm(state, f"{block}.norm2", c))
    norm = f"{name}.diffmodel_encoder.norm"
    return layer_norm(state, norm, x), layer_norm(state, norm, c)


def _generated(state: State, conditions: Tensor) -> Tensor:
    """The condition generator on ``[B, 30, 17 * D]``."""
    name = f"{PROCESS}.condition_generator"
    y = state[f"{name}.pos_embed"] + gelu(linear(state, f"{name}.fc1.0", conditions))
    for i in range(SMALL.condition_depth):
        block = f"{name}.blocks.{i}"
        y = y + attention(state, f"{block}.attn", layer_norm(state, f"{block}.norm1", y), 8)
        y = y + mlp(state, f"{block}.mlp", layer_norm(state, f"{block}.norm2", y))
    return gelu(linear(state, f"{name}.fc2.0", layer_norm(state, f"{name}.norm", y))) + conditions


def _reference(state: State, features: Tensor) -> DiffMeshEstimate:
    """The head, one operation after the other."""
    batch, frames = features.shape[:2]
    x_in = linear(state, "fc_ds.0", features).clamp(min=0)
    padded = torch.zeros(3, 25)
    padded[:, :23] = TEMPLATE.T
    start = gelu(linear(state, "fc_mesh_temp.0", padded.reshape(15, 5)))
    start = torch.einsum("jr,rd->jd", state["fc_mesh_temp.2.weight"][..., 0], start)
    current = gelu(start + state["fc_mesh_temp.2.bias"][:, None]).expand(batch, 17, -1)
    conditions = torch.cat([torch.zeros(batch, 14, 17, SMALL.width), x_in.expand(-1, 16, -1, -1)], 1)
    conditions = _generated(state, conditions.flatten(2)).reshape(batch, 30, 17, -1)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 1e-3, 30, dtype=torch.float64), 0).tolist()
    states, predicted = [], []
    for k in range(30):
        t = 29 - k
        now, after = alpha_bar[t], alpha_bar[t - 1] if t else 1.0
        eps, following = _step_network(state, current, conditions[:, k], t)
        x0 = (current - eps * (1 - now) ** 0.5) / now**0.5
        current = after**0.5 * x0 + (1 - after) ** 0.5 * eps
        if k >= 14:
            states.append(current)
            predicted.append(following)
    frame_states, next_conditions, target = torch.stack(states, 1), torch.stack(predicted[:-1], 1), x_in[:, 1:]
    if frames == 1:
        frame_states, next_conditions, target = frame_states.mean(1, True), next_conditions.mean(1, True), x_in
    tokens = gelu(linear(state, "diffmesh_process.fc1.0", frame_states)) + x_in
    pose = linear(state, "head_pose", tokens.flatten(2)) + state["init_pose"]
    betas = linear(state, "head_shape", tokens.flatten(2).mean(1)) + state["init_shape"]
    rotations = rotation_from_interleaved(pose.reshape(batch, frames, 24, 6))
    return DiffMeshEstimate(rotations, betas, target, next_conditions)


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
    _assert_same(estimate, _reference(head.state_dict(), features), atol=2e-5)


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
