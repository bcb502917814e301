"""Procedural poses: everyday and sports postures with coordinated variation, and broad samples within joint limits.

About 70 % of the people take a posture of ``base_poses.py``: a stance and, unless the stance brings its own, the arms
of an arm posture, each mirrored or not, sometimes blended with a second posture, varied by coordinated movements and by
single joints. The rest is drawn from the whole range of the joints with correlated limbs. A cheap test on a stick
figure sends postures in which a limb runs deep through the trunk, the head or the other leg back to be drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffhmr.body import anatomy
from diffhmr.body.anatomy import DOFS, INDEX, LEFT_ARM, LEFT_LEG, RIGHT_ARM, RIGHT_LEG, Floats
from diffhmr.body.base_poses import ARMS, STANCES, SYNERGIES, Angles, Posture
from diffhmr.random import Seeds, Stream, normals, pick, uniforms

PoseSource = Callable[[Seeds], Floats]
"""Item seeds ``[B]`` to SMPL rotations ``[B, 24, 3, 3]``, the root in a world with y up and any heading."""

BROAD_SHARE = 0.28
_BLEND_SHARE = 0.3
_ATTEMPTS = 4
_NUM_DOFS = len(DOFS)
# Streams of the attempts of one item lie this far apart.
_ATTEMPT_STRIDE = 200


@dataclass(frozen=True)
class _Table:
    """Postures as arrays, radians: means and spreads ``[P, D]``, synergy deviations ``[P, K]``, the rest ``[P]``."""

    mean: Floats
    spread: Floats
    synergy: Floats
    weight: Floats
    own_arms: Floats
    lying: NDArray[np.bool_]
    free: NDArray[np.bool_]
    hanging: NDArray[np.bool_]


def sample_poses(item_seeds: Seeds) -> Floats:
    """SMPL rotations ``[B, 24, 3, 3]`` (float64) of the people ``item_seeds [B]``.

    The root carries the tilt of the body (a lying person lies) in a world with y up; whoever stands upright faces z.
    """
    return anatomy.rotations_from_angles(sample_angles(item_seeds))


def sample_angles(item_seeds: Seeds) -> Floats:
    """Anatomical angles ``[B, D]`` (radians, columns ``anatomy.DOFS``) of the people ``item_seeds [B]``."""
    angles = np.empty((len(item_seeds), _NUM_DOFS))
    pending = np.arange(len(item_seeds))
    for attempt in range(_ATTEMPTS):
        drawn = _draw_angles(item_seeds[pending], attempt * _ATTEMPT_STRIDE)
        angles[pending] = drawn
        if attempt + 1 < _ATTEMPTS:
            pending = pending[_collides(anatomy.stick_joints(anatomy.rotations_from_angles(drawn)))]
    return angles


def posture_angles(posture: Posture) -> Floats:
    """Mean angles ``[D]`` (radians) of a posture."""
    return np.deg2rad(_expand(posture.angles, [dof.neutral for dof in DOFS]))


def _draw_angles(seeds: Seeds, stream: int) -> Floats:
    """One attempt: angles ``[B, D]`` within the limits."""
    broad = uniforms(seeds, stream + Stream.POSE_KIND, 1)[:, 0] < BROAD_SHARE
    angles = np.empty((len(seeds), _NUM_DOFS))
    angles[broad] = _broad_angles(seeds[broad], stream)
    angles[~broad] = _base_angles(seeds[~broad], stream)
    return anatomy.clip_to_limits(angles)


def _base_angles(seeds: Seeds, stream: int) -> Floats:
    """Angles ``[B, D]`` around the base postures."""
    uniform = uniforms(seeds, stream + Stream.POSE_STANCE, 12)
    mean, spread, synergy, lying = _compose(uniform[:, :6])
    other, _, _, other_lying = _compose(uniform[:, 6:])
    choice = uniforms(seeds, stream + Stream.POSE_BLEND, 2)
    share = np.where((choice[:, 0] < _BLEND_SHARE) & ~lying & ~other_lying, 0.7 * choice[:, 1], 0.0)[:, None]
    mean = (1 - share) * mean + share * other
    normal = normals(seeds, stream + Stream.POSE_NOISE, _NUM_DOFS + len(SYNERGIES) + 1)
    # Some people move stiffly, some freely: one factor per person on all deviations.
    loose = np.exp(0.38 * np.clip(normal[:, -1:], -2.0, 2.6))
    deviation = normal[:, :_NUM_DOFS] * spread
    # Not a matrix product: its rounding would depend on the size of the batch.
    for k, loading in enumerate(_SYNERGY_LOADING):
        deviation += (normal[:, _NUM_DOFS + k] * synergy[:, k])[:, None] * loading
    return mean + loose * deviation


def _compose(uniform: Floats) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Mean, spread ``[B, D]``, synergies ``[B, K]`` and whether lying ``[B]`` from six uniform numbers per person."""
    stance = pick(uniform[:, 0], _STANCES.weight)
    first = pick(uniform[:, 1], _ARMS.weight)
    # Both arms of one posture, or the left of one and the right of another where both make sense alone.
    second = pick(_rescale(uniform[:, 2], 0.65, 1.0), _ARMS.weight)
    separate = (uniform[:, 2] > 0.65) & _ARMS.free[first] & _ARMS.free[second]
    second = np.where(separate, second, first)
    own = uniform[:, 3] < _STANCES.own_arms[stance]
    mirror_arms = uniform[:, 4] < 0.5
    mean, spread = _STANCES.mean[stance], _STANCES.spread[stance]
    synergy = _STANCES.synergy[stance]
    arms = np.concatenate([_ARMS.mean[first][:, LEFT_ARM], _ARMS.mean[second][:, RIGHT_ARM]], axis=1)
    swapped = np.concatenate([_ARMS.mean[second][:, RIGHT_ARM], _ARMS.mean[first][:, LEFT_ARM]], axis=1)
    arms = np.where(mirror_arms[:, None], swapped, arms)
    follows = ~own & (_ARMS.hanging[first] & _ARMS.hanging[second]) & (_rescale(uniform[:, 3], 0.0, 1.0) % 0.1 < 0.07)
    arms = np.where(follows[:, None], _hang(arms, mean), arms)
    both = slice(LEFT_ARM.start, RIGHT_ARM.stop)
    mean[:, both] = np.where(own[:, None], mean[:, both], arms)
    spread[:, both] = np.where(own[:, None], spread[:, both], _ARMS.spread[first][:, both])
    synergy = np.where(_ARM_SYNERGIES & ~own[:, None], _ARMS.synergy[first], synergy)
    mirrored = uniform[:, 5:6] < 0.5
    return np.where(mirrored, anatomy.mirror_angles(mean), mean), spread, synergy, _STANCES.lying[stance]


def _hang(arms: Floats, trunk: Floats) -> Floats:
    """The arms ``[B, 20]`` hanging vertically below a trunk bent forward as in ``trunk [B, D]``."""
    lean = trunk[:, INDEX["root_pitch"]] + trunk[:, INDEX["bend"]]
    result = arms.copy()
    use = (lean > np.deg2rad(18)) & (lean < np.deg2rad(120))
    for start in (0, LEFT_ARM.stop - LEFT_ARM.start):
        elevation = start + INDEX["l_elevation"] - LEFT_ARM.start
        plane = start + INDEX["l_plane"] - LEFT_ARM.start
        result[:, elevation] = np.where(use, lean, arms[:, elevation])
        result[:, plane] = np.where(use, np.deg2rad(82.0), arms[:, plane])
    return result


def _broad_angles(seeds: Seeds, stream: int) -> Floats:
    """Angles ``[B, D]`` from the whole range of the joints, with correlated limbs."""
    normal = normals(seeds, stream + Stream.POSE_BROAD, 2 * _NUM_DOFS + 8)
    own, shared = normal[:, :_NUM_DOFS], normal[:, _NUM_DOFS : 2 * _NUM_DOFS]
    # Left and right share part of their deviation: rho is their correlation.
    rho = _SIDE_CORRELATION
    score = np.sqrt(1 - rho) * own + np.sqrt(rho) * shared[:, _SIDE_SHARED]
    # A bent hip goes with a bent knee, a raised thigh with a lifted foot, bending with looking up.
    for leg in (LEFT_LEG, RIGHT_LEG):
        hip, knee, ankle = leg.start, leg.start + 3, leg.start + 5
        score[:, knee] = 0.55 * score[:, hip] + 0.835 * score[:, knee]
        score[:, ankle] = 0.3 * score[:, knee] + 0.954 * score[:, ankle]
    nod, bend = INDEX["nod"], INDEX["bend"]
    score[:, nod] = -0.35 * score[:, bend] + 0.937 * score[:, nod]
    reach = np.where(score > 0, anatomy.HIGH - _BROAD_CENTRE, _BROAD_CENTRE - anatomy.LOW)
    # tanh bends the normal's tails inside the limits; 1.35 standard deviations reach half way.
    angles = _BROAD_CENTRE + reach * np.tanh(np.abs(score) / 2.4) * np.sign(score)
    extra = normal[:, 2 * _NUM_DOFS :]
    tumbling = extra[:, 0] > 1.4
    pitch = np.where(tumbling, 70.0 * extra[:, 1], 6.0 + 20.0 * extra[:, 1])
    roll = np.where(tumbling, 35.0 * extra[:, 2], 9.0 * extra[:, 2])
    spin = np.where(tumbling, 60.0 * extra[:, 3], 3.0 * extra[:, 3])
    angles[:, :3] = np.deg2rad(np.stack([pitch, roll, spin], axis=1))
    # A trunk leaning forward is mostly a hip that is bent while the feet stay below.
    upright = np.where(tumbling, 0.0, 0.6)[:, None] * angles[:, :1]
    angles[:, [INDEX["l_hip_flex"], INDEX["r_hip_flex"]]] += upright
    return angles


def _collides(joints: Floats) -> NDArray[np.bool_]:
    """``[B]``: a limb of the stick figure ``[B, 24, 3]`` runs deep through the trunk, the head or the other leg."""
    pelvis, chest, neck = joints[:, 0], joints[:, 9], joints[:, 12]
    head = joints[:, 15] + 0.55 * (joints[:, 15] - neck)
    bad = np.zeros(len(joints), bool)
    for elbow, wrist, hand in ((18, 20, 22), (19, 21, 23)):
        for point in (joints[:, elbow], (joints[:, elbow] + joints[:, wrist]) / 2, joints[:, wrist], joints[:, hand]):
            bad |= _segment_distance(point, pelvis, chest) < 0.085
            bad |= _segment_distance(point, chest, neck) < 0.075
            bad |= np.linalg.norm(point - head, axis=-1) < 0.085
            for hip, knee in ((1, 4), (2, 5)):
                bad |= _segment_distance(point, joints[:, hip], joints[:, knee]) < 0.045
    for knee, ankle, foot, other in ((4, 7, 10, 1), (5, 8, 11, -1)):
        other_hip, other_knee, other_ankle = (joints[:, j + other] for j in (knee - 3, knee, ankle))
        for point in ((joints[:, knee] + joints[:, ankle]) / 2, joints[:, ankle], joints[:, foot]):
            bad |= _segment_distance(point, other_hip, other_knee) < 0.06
            bad |= _segment_distance(point, other_knee, other_ankle) < 0.05
            bad |= _segment_distance(point, pelvis, chest) < 0.1
        bad |= _segment_distance(joints[:, knee], chest, neck) < 0.1
    return bad


def _segment_distance(point: Floats, start: Floats, end: Floats) -> Floats:
    """Distance ``[B]`` of points ``[B, 3]`` from segments."""
    along, offset = end - start, point - start
    share = np.clip(_dot(offset, along) / _dot(along, along), 0.0, 1.0)
    rest = offset - share[:, None] * along
    distance: Floats = np.sqrt(_dot(rest, rest))
    return distance


def _dot(first: Floats, second: Floats) -> Floats:
    return first[:, 0] * second[:, 0] + first[:, 1] * second[:, 1] + first[:, 2] * second[:, 2]


def _rescale(uniform: Floats, low: float, high: float) -> Floats:
    """A uniform number again from the part of a uniform number between ``low`` and ``high``."""
    return np.clip((uniform - low) / (high - low), 0.0, 1.0)


def _expand(angles: Angles, default: list[float]) -> Floats:
    """Named angles (both sides, a pair, or middle) as an array ``[D]``, in the unit of the values."""
    result = np.array(default, dtype=np.float64)
    for name, value in angles.items():
        if name in INDEX:
            assert not isinstance(value, tuple), name
            result[INDEX[name]] = value
        else:
            left, right = value if isinstance(value, tuple) else (value, value)
            result[INDEX[f"l_{name}"]], result[INDEX[f"r_{name}"]] = left, right
    return result


def _tabulate(postures: tuple[Posture, ...]) -> _Table:
    def synergy(posture: Posture) -> list[float]:
        unknown = set(posture.synergy) - set(SYNERGIES)
        assert not unknown, unknown
        return [posture.synergy.get(name, posture.spread * usual) for name, (usual, _) in SYNERGIES.items()]

    return _Table(
        mean=np.stack([posture_angles(p) for p in postures]),
        spread=np.stack([p.spread * anatomy.SPREAD for p in postures]),
        synergy=np.deg2rad([synergy(p) for p in postures]),
        weight=np.array([p.weight for p in postures]),
        own_arms=np.array([p.own_arms for p in postures]),
        lying=np.array([p.lying for p in postures]),
        free=np.array([p.free for p in postures]),
        hanging=np.array([p.hanging for p in postures]),
    )


def _side_structure() -> tuple[NDArray[np.intp], Floats]:
    """For each angle the index of the number it shares with its counterpart, and the correlation of both."""
    shared = np.array([INDEX["l_" + d.name[2:]] if d.name.startswith("r_") else INDEX[d.name] for d in DOFS])
    correlation = np.zeros(_NUM_DOFS)
    for part, value in ((LEFT_ARM, 0.3), (RIGHT_ARM, 0.3), (LEFT_LEG, 0.45), (RIGHT_LEG, 0.45)):
        correlation[part] = value
    return shared, correlation


def _broad_centre() -> Floats:
    """Most likely values ``[D]`` (radians) of the broad samples: a loosely bent person."""
    legs: Angles = {"bend": 8, "hip_flex": 28, "hip_abd": 8, "hip_rot": -8, "knee": 34}
    centre: Angles = {**legs, "elevation": 40, "plane": 48, "axial": 8, "elbow": 50}
    return np.deg2rad(_expand(centre, [dof.neutral for dof in DOFS]))


_STANCES = _tabulate(STANCES)
_ARMS = _tabulate(ARMS)
_SYNERGY_LOADING = np.stack([_expand(loading, [0.0] * _NUM_DOFS) for _, loading in SYNERGIES.values()])
_ARM_SYNERGIES = np.array([name in ("arms_up", "arms_in", "elbows", "steer") for name in SYNERGIES])
_SIDE_SHARED, _SIDE_CORRELATION = _side_structure()
_BROAD_CENTRE = _broad_centre()
