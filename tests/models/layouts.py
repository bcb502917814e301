"""Names and shapes in the official files of MotionBERT and DiffMesh, without the prefix ``module.``."""

from __future__ import annotations

Layout = dict[str, tuple[int, ...]]

CHAIN = "diffmesh_process.entire_process"


def dstformer_layout(width: int) -> Layout:
    """The 260 tensors of DSTformer; the width is 512 (full) or 256 (lite)."""
    layout: Layout = {"temp_embed": (1, 243, 1, width), "pos_embed": (1, 17, width)}
    layout |= _linear("joints_embed", width, 3) | _norm("norm", width)
    layout |= _linear("pre_logits.fc", 512, width) | _linear("head", 3, 512)
    for i in range(5):
        layout |= _linear(f"ts_attn.{i}", 2, 2 * width)
        for block in (f"blocks_st.{i}", f"blocks_ts.{i}"):
            for kind in "st":
                layout |= _norm(f"{block}.norm1_{kind}", width) | _norm(f"{block}.norm2_{kind}", width)
                layout |= _linear(f"{block}.attn_{kind}.qkv", 3 * width, width)
                layout |= _linear(f"{block}.attn_{kind}.proj", width, width)
                layout |= _linear(f"{block}.mlp_{kind}.fc1", 1024, width)
                layout |= _linear(f"{block}.mlp_{kind}.fc2", width, 1024)
    return layout


def mesh_head_layout() -> Layout:
    """MotionBERT's mesh head but for the buffers of its body model."""
    layout = _linear("fc1", 1024, 8704) | _linear("fc2", 1024, 8704) | _batch_norm("bn1", 1024)
    layout |= _batch_norm("bn2", 1024) | _linear("head_pose", 144, 1024) | _linear("head_shape", 10, 1024)
    return layout | {"init_pose": (1, 144), "init_shape": (1, 10)}


def classifier_layout(num_classes: int) -> Layout:
    """MotionBERT's head for action recognition."""
    return _linear("fc1", 2048, 8704) | _batch_norm("bn", 2048) | _linear("fc2", num_classes, 2048)


def embedding_layout(dim: int) -> Layout:
    """MotionBERT's head for one-shot action recognition."""
    return _linear("fc1", dim, 8704)


def diffmesh_head_layout() -> Layout:
    """DiffMesh's head but for the buffers of its body model."""
    layout: Layout = {"mesh_template": (1, 6890, 3), "init_pose": (1, 144), "init_shape": (1, 10)}
    layout |= _linear("fc_ds.0", 128, 512) | _linear("fc_mesh_temp.0", 128, 1378)
    layout |= {"fc_mesh_temp.2.weight": (17, 15, 1), "fc_mesh_temp.2.bias": (17,)}
    layout |= _linear("head_pose", 144, 2176) | _linear("head_shape", 10, 2176)
    layout |= _linear("diffmesh_process.fc1.0", 128, 128)
    step = f"{CHAIN}.diffusion_model"
    layout |= _linear(f"{step}.temb_fc.0", 128, 128) | _linear(f"{step}.temb_fc.2", 128, 128)
    layout |= _norm(f"{step}.diffmodel_encoder.norm", 128)
    for i in range(4):
        block = f"{step}.diffmodel_encoder.blocks.{i}"
        for half in ("diff", "cond"):
            layout |= _linear(f"{block}.attn.qkv_{half}", 384, 128) | _linear(f"{block}.attn.proj_{half}", 128, 128)
        layout |= _linear(f"{block}.mlp.fc1", 256, 128) | _linear(f"{block}.mlp.fc2", 128, 256)
        layout |= _norm(f"{block}.norm1", 128) | _norm(f"{block}.norm2", 128)
    generator = f"{CHAIN}.condition_generator"
    layout |= {f"{generator}.pos_embed": (1, 30, 256)} | _norm(f"{generator}.norm", 256)
    layout |= _linear(f"{generator}.fc1.0", 256, 2176) | _linear(f"{generator}.fc2.0", 2176, 256)
    for i in range(2):
        block = f"{generator}.blocks.{i}"
        layout |= _linear(f"{block}.attn.qkv", 768, 256) | _linear(f"{block}.attn.proj", 256, 256)
        layout |= _linear(f"{block}.mlp.fc1", 32, 256) | _linear(f"{block}.mlp.fc2", 256, 32)
        layout |= _norm(f"{block}.norm1", 256) | _norm(f"{block}.norm2", 256)
    return layout


def refine_head_layout() -> Layout:
    """The head of DiffMesh's refinement but for the buffers of its body model: no shape and no mean pose."""
    own = ("head_pose", "head_shape", "init_pose", "init_shape")
    layout = {name: shape for name, shape in diffmesh_head_layout().items() if not name.startswith(own)}
    layout |= _linear("fc1.0", 512, 2176) | {"fc2.0.weight": (512, 144, 5), "fc2.0.bias": (512,)}
    return layout | {"head_pose.weight": (144, 1024, 5), "head_pose.bias": (144,)}


def whole_layout(width: int, head: Layout) -> Layout:
    """A model of backbone and head."""
    backbone = {f"backbone.{name}": shape for name, shape in dstformer_layout(width).items()}
    return backbone | {f"head.{name}": shape for name, shape in head.items()}


def _linear(name: str, out: int, width: int) -> Layout:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> Layout:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> Layout:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts} | {f"{name}.num_batches_tracked": ()}
