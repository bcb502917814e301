"""Layers and networks written out from their formulas on a state dict, for tests that hold a network against them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from diffhmr.body.params import SmplParams
from diffhmr.models.diffmesh import DiffMeshEstimate, DiffMeshSize
from tests.models.layouts import CHAIN

State = Mapping[str, Tensor]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return torch.einsum("...i,oi->...o", x, state[f"{name}.weight"]) + state[f"{name}.bias"]


def layer_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-6) * state[f"{name}.weight"] + state[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    return linear(state, f"{name}.fc2", gelu(linear(state, f"{name}.fc1", x)))


def heads_of(x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values ``[..., N, heads, C]`` of their projection: the three one after the other."""
    query, key, value = x.chunk(3, dim=-1)
    return query.unflatten(-1, (heads, -1)), key.unflatten(-1, (heads, -1)), value.unflatten(-1, (heads, -1))


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """``[..., heads, N, N]``, rows sum to 1."""
    scores = torch.einsum("...nhc,...mhc->...hnm", query, key) / query.shape[-1] ** 0.5
    return torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True)


def attention(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    """Self-attention over the next to last dimension."""
    query, key, value = heads_of(linear(state, f"{name}.qkv", x), heads)
    mixed = torch.einsum("...hnm,...mhc->...nhc", attention_weights(query, key), value)
    return linear(state, f"{name}.proj", mixed.flatten(-2))


def rotation_from_interleaved(rot6d: Tensor) -> Tensor:
    """Gram-Schmidt on the columns of a row-major 3x2 matrix, ``[..., 6]`` to ``[..., 3, 3]``."""
    first, second = rot6d[..., 0::2], rot6d[..., 1::2]
    b1 = first / first.norm(dim=-1, keepdim=True)
    b2 = second - (b1 * second).sum(-1, keepdim=True) * b1
    b2 = b2 / b2.norm(dim=-1, keepdim=True)
    return torch.stack([b1, b2, torch.linalg.cross(b1, b2)], dim=-1)


def batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    """As in evaluation."""
    scale = state[f"{name}.weight"] / torch.sqrt(state[f"{name}.running_var"] + 1e-5)
    return (x - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"]


def part(state: State, prefix: str) -> dict[str, Tensor]:
    """What the names that begin with ``prefix`` stand for, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def dstformer_features(state: State, x: Tensor, depth: int = 5, heads: int = 8) -> Tensor:
    """Features of DSTformer; frames are mixed after moving the joints to the front."""

    def over_joints(block: str, y: Tensor) -> Tensor:
        y = y + attention(state, f"{block}.attn_s", layer_norm(state, f"{block}.norm1_s", y), heads)
        return y + mlp(state, f"{block}.mlp_s", layer_norm(state, f"{block}.norm2_s", y))

    def over_frames(block: str, y: Tensor) -> Tensor:
        normed = layer_norm(state, f"{block}.norm1_t", y).permute(0, 2, 1, 3)
        y = y + attention(state, f"{block}.attn_t", normed, heads).permute(0, 2, 1, 3)
        return y + mlp(state, f"{block}.mlp_t", layer_norm(state, f"{block}.norm2_t", y))

    y = linear(state, "joints_embed", x) + state["pos_embed"][:, None] + state["temp_embed"][:, : x.shape[1]]
    for i in range(depth):
        st = over_frames(f"blocks_st.{i}", over_joints(f"blocks_st.{i}", y))
        ts = over_joints(f"blocks_ts.{i}", over_frames(f"blocks_ts.{i}", y))
        scores = torch.exp(linear(state, f"ts_attn.{i}", torch.cat([st, ts], -1)))
        share = scores / scores.sum(-1, keepdim=True)
        y = share[..., 0, None] * st + share[..., 1, None] * ts
    return torch.tanh(linear(state, "pre_logits.fc", layer_norm(state, "norm", y)))


def smpl_parameters(state: State, pose: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations ``[B, T, 24, 3, 3]`` and betas ``[B, 10]`` from what goes into the two output layers."""
    rot6d = linear(state, "head_pose", pose) + state["init_pose"]
    rotations = rotation_from_interleaved(rot6d.unflatten(-1, (24, 6)))
    return rotations, linear(state, "head_shape", shape) + state["init_shape"]


def mesh_head(state: State, features: Tensor) -> tuple[Tensor, Tensor]:
    """MotionBERT's mesh head on ``[B, T, 17, C]``: rotations and betas."""
    flat = features.flatten(2)
    pose = batch_norm(state, "bn1", linear(state, "fc1", flat)).clamp(min=0)
    shape = batch_norm(state, "bn2", linear(state, "fc2", flat.sum(dim=1) / flat.shape[1])).clamp(min=0)
    return smpl_parameters(state, pose, shape)


def action_classifier(state: State, features: Tensor) -> Tensor:
    """Logits of ``[B, M, T, 17, C]``."""
    hidden = batch_norm(state, "bn", linear(state, "fc1", _over_people_and_frames(features))).clamp(min=0)
    return linear(state, "fc2", hidden)


def action_embedding(state: State, features: Tensor) -> Tensor:
    """Unit vectors of ``[B, M, T, 17, C]``."""
    vectors = linear(state, "fc1", _over_people_and_frames(features))
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _over_people_and_frames(features: Tensor) -> Tensor:
    return features.flatten(1, 2).flatten(2).sum(dim=1) / (features.shape[1] * features.shape[2])


def diffmesh_head(state: State, features: Tensor, size: DiffMeshSize) -> DiffMeshEstimate:
    """DiffMesh's head on ``[B, T, 17, C]``, one operation after the other; T is 16 or 1."""
    tokens, target, next_conditions = _diffmesh_tokens(state, features, size)
    rotations, betas = smpl_parameters(state, tokens.flatten(2), tokens.flatten(2).mean(1))
    return DiffMeshEstimate(rotations, betas, target, next_conditions)


def refine_head(state: State, features: Tensor, given: SmplParams, size: DiffMeshSize) -> DiffMeshEstimate:
    """The refinement's head on ``[B, T, 17, C]`` and ``given [B, T]``, one operation after the other."""
    tokens, target, next_conditions = _diffmesh_tokens(state, features, size)
    pose = given.rotations[..., :2].flatten(-3)
    seen = linear(state, "fc1.0", tokens.flatten(2)).clamp(min=0)
    posed = over_five_frames(state, "fc2.0", pose).clamp(min=0)
    moved = pose + over_five_frames(state, "head_pose", torch.cat([seen, posed], -1))
    rotations = rotation_from_interleaved(moved.unflatten(-1, (24, 6)))
    return DiffMeshEstimate(rotations, given.betas.mean(1), target, next_conditions)


def over_five_frames(state: State, name: str, x: Tensor) -> Tensor:
    """A convolution of ``[B, T, C]`` over the frames t - 2 to t + 2, those outside the clip being 0."""
    padded = torch.cat([torch.zeros_like(x[:, :1])] * 2 + [x] + [torch.zeros_like(x[:, :1])] * 2, dim=1)
    parts = [padded[:, k : k + x.shape[1]] @ state[f"{name}.weight"][..., k].T for k in range(5)]
    return torch.stack(parts).sum(0) + state[f"{name}.bias"]


def _diffmesh_tokens(state: State, features: Tensor, size: DiffMeshSize) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens ``[B, T, 17, D]``, the conditions that are to be predicted, and the predicted ones."""
    batch, frames = features.shape[:2]
    x_in = linear(state, "fc_ds.0", features).clamp(min=0)
    template = state["mesh_template"][0]
    columns = -(-len(template) // 5)
    padded = torch.zeros(3, 5 * columns)
    padded[:, : len(template)] = template.T
    start = gelu(linear(state, "fc_mesh_temp.0", padded.reshape(15, columns)))
    start = torch.einsum("jr,rd->jd", state["fc_mesh_temp.2.weight"][..., 0], start)
    current = gelu(start + state["fc_mesh_temp.2.bias"][:, None]).expand(batch, 17, -1)
    conditions = torch.cat([torch.zeros(batch, 14, 17, size.width), x_in.expand(-1, 16, -1, -1)], 1)
    conditions = _generated(state, conditions.flatten(2), size).reshape(batch, 30, 17, -1)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 1e-3, 30, dtype=torch.float64), 0).tolist()
    states, predicted = [], []
    for k in range(30):
        t = 29 - k
        now, after = alpha_bar[t], alpha_bar[t - 1] if t else 1.0
        eps, following = _step_network(state, current, conditions[:, k], t, size)
        x0 = (current - eps * (1 - now) ** 0.5) / now**0.5
        current = after**0.5 * x0 + (1 - after) ** 0.5 * eps
        if k >= 14:
            states.append(current)
            predicted.append(following)
    frame_states, next_conditions, target = torch.stack(states, 1), torch.stack(predicted[:-1], 1), x_in[:, 1:]
    if frames == 1:
        frame_states, next_conditions, target = frame_states.mean(1, True), next_conditions.mean(1, True), x_in
    return gelu(linear(state, "diffmesh_process.fc1.0", frame_states)) + x_in, target, next_conditions


def _step_network(
    state: State, current: Tensor, condition: Tensor, t: int, size: DiffMeshSize
) -> tuple[Tensor, Tensor]:
    """One call of DiffMesh's diffusion network: ``[B, 17, D]`` each."""
    name = f"{CHAIN}.diffusion_model"
    half = size.width // 2
    angles = t * 10000.0 ** (-torch.arange(half) / (half - 1))
    time = torch.cat([torch.sin(angles), torch.cos(angles)])
    time = linear(state, f"{name}.temb_fc.2", gelu(linear(state, f"{name}.temb_fc.0", time)))
    x, c = current + time, condition + time
    for i in range(size.depth):
        block = f"{name}.diffmodel_encoder.blocks.{i}"
        query_x, key_x, value_x = heads_of(
            linear(state, f"{block}.attn.qkv_diff", layer_norm(state, f"{block}.norm1", x)), size.heads
        )
        query_c, key_c, value_c = heads_of(
            linear(state, f"{block}.attn.qkv_cond", layer_norm(state, f"{block}.norm1", c)), size.heads
        )
        of_x = torch.einsum("bhnm,bmhc->bnhc", attention_weights(query_x, key_x), value_x).flatten(2)
        of_x = linear(state, f"{block}.attn.proj_diff", of_x).unflatten(-1, (size.heads, -1))
        weights = attention_weights(query_c, key_c)
        x = x + torch.einsum("bhnm,bmhc->bnhc", weights, of_x).flatten(2)
        c = c + linear(state, f"{block}.attn.proj_cond", torch.einsum("bhnm,bmhc->bnhc", weights, value_c).flatten(2))
        x = x + mlp(state, f"{block}.mlp", layer_norm(state, f"{block}.norm2", x))
        c = c + mlp(state, f"{block}.mlp", layer_norm(state, f"{block}.norm2", c))
    norm = f"{name}.diffmodel_encoder.norm"
    return layer_norm(state, norm, x), layer_norm(state, norm, c)


def _generated(state: State, conditions: Tensor, size: DiffMeshSize) -> Tensor:
    """DiffMesh's condition generator on ``[B, 30, 17 * D]``."""
    name = f"{CHAIN}.condition_generator"
    y = state[f"{name}.pos_embed"] + gelu(linear(state, f"{name}.fc1.0", conditions))
    for i in range(size.condition_depth):
        block = f"{name}.blocks.{i}"
        y = y + attention(state, f"{block}.attn", layer_norm(state, f"{block}.norm1", y), 8)
        y = y + mlp(state, f"{block}.mlp", layer_norm(state, f"{block}.norm2", y))
    return gelu(linear(state, f"{name}.fc2.0", layer_norm(state, f"{name}.norm", y))) + conditions


def randomised(module: torch.nn.Module, seed: int = 0) -> None:
    """Make every parameter and running statistic random, so that no part of a network is the identity or zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(0.5 + noise.abs())
            elif value.dim() > 1 and "embed" not in name and not name.endswith("init_pose"):
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.add_(0.3 * noise)
