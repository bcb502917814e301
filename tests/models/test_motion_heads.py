from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.models.item_random import step_keys
from diffhmr.models.motion_heads import (
    ActionClassifier,
    ActionEmbedding,
    ClipEstimate,
    MeshHead,
    MotionBertAction,
    MotionBertMesh,
)
from tests.models.formulas import action_classifier, action_embedding, mesh_head, randomised
from tests.models.layouts import classifier_layout, embedding_layout, mesh_head_layout, whole_layout
from tests.models.people import random_params

FEATURES = 6
BACKBONE = DSTformerSize(width=16, hidden=24, depth=1, heads=4, features=FEATURES)


def _features(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, 17, FEATURES, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _clips(*shape: int) -> Tensor:
    return torch.rand(*shape, 17, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


def _mesh_head() -> MeshHead:
    head = MeshHead(FEATURES, hidden=20)
    randomised(head)
    return head.eval()


def _layout(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_the_parameters_are_those_of_official_files() -> None:
    with torch.device("meta"):
        backbone = DSTformer()
        classifier, embedding = ActionClassifier(num_classes=60), ActionEmbedding()
    mesh = MotionBertMesh(backbone, MeshHead())
    assert _layout(mesh) == whole_layout(512, mesh_head_layout())
    assert _layout(classifier) == classifier_layout(60)
    assert _layout(embedding) == embedding_layout(2048)
    assert set(MotionBertAction(backbone, embedding).state_dict()) == {
        *(f"backbone.{name}" for name in backbone.state_dict()),
        "head.fc1.weight",
        "head.fc1.bias",
    }


def test_the_output_layers_start_small() -> None:
    head = MeshHead(FEATURES, hidden=400)
    for layer in (head.head_pose, head.head_shape):
        bound = 0.01 * (6 / (400 + layer.out_features)) ** 0.5
        assert 0.95 * bound < layer.weight.abs().max().item() <= bound


def test_the_mesh_head_is_the_formula() -> None:
    head, features = _mesh_head(), _features(2, 5)
    estimate = head(features)
    rotations, betas = mesh_head(head.state_dict(), features)
    torch.testing.assert_close(estimate.rotations, rotations, atol=1e-5, rtol=0)
    torch.testing.assert_close(estimate.betas, betas)


def test_offsets_count_from_the_mean_in_the_official_order() -> None:
    head = _mesh_head()
    for layer in (head.head_pose, head.head_shape):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    params, _ = random_params(1, 3)
    rotations, betas = params.rotations[0], params.betas[0]
    head.set_mean(rotations, betas)
    # A row-major 3x2 matrix, as in SPIN's file of mean parameters.
    torch.testing.assert_close(head.init_pose.reshape(24, 3, 2), rotations[..., :2])
    estimate = head(_features(2, 3))
    torch.testing.assert_close(estimate.rotations, rotations.expand(2, 3, -1, -1, -1))
    torch.testing.assert_close(estimate.betas, betas.expand(2, -1))
    with torch.no_grad():
        head.head_pose.bias[6 * 4 + 1] += 0.5  # joint 4: x of the second column
    changed = head(_features(2, 3)).rotations
    columns = rotations[4, :, :2].clone()
    columns[0, 1] += 0.5
    second = columns[:, 1] - (columns[:, 0] @ columns[:, 1]) * columns[:, 0]
    torch.testing.assert_close(changed[1, 2, 4, :, 0], columns[:, 0])
    torch.testing.assert_close(changed[1, 2, 4, :, 1], second / second.norm())


def test_a_new_head_stands_upright() -> None:
    head = MeshHead(FEATURES, hidden=20).eval()
    nn.init.zeros_(head.head_pose.bias)
    nn.init.zeros_(head.head_pose.weight)
    expected = torch.eye(3).repeat(24, 1, 1)
    expected[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    torch.testing.assert_close(head(_features(1, 1)).rotations[0, 0], expected)


def test_parameters_per_frame_share_the_shape() -> None:
    estimate = _mesh_head()(_features(2, 4))
    assert isinstance(estimate, ClipEstimate)
    assert estimate.rotations.shape == (2, 4, 24, 3, 3)
    assert estimate.betas.shape == (2, 10)
    params = estimate.params
    assert params.shape == (2, 4)
    assert torch.equal(params.rotations, estimate.rotations)
    for frame in range(4):
        assert torch.equal(params.betas[:, frame], estimate.betas)


@torch.no_grad()
def test_clips_one_by_one_or_in_a_batch() -> None:
    torch.manual_seed(0)
    mesh = MotionBertMesh(DSTformer(BACKBONE), _mesh_head()).eval()
    x = _clips(3, 7)
    together = mesh(x)
    classifier = ActionClassifier(5, FEATURES)
    randomised(classifier)
    action = MotionBertAction(DSTformer(BACKBONE), classifier).eval()
    pairs = _clips(3, 2, 4)
    logits = action(pairs)
    assert logits.shape == (3, 5)
    for i in range(3):
        alone = mesh(x[i : i + 1])
        torch.testing.assert_close(alone.rotations[0], together.rotations[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.betas[0], together.betas[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(action(pairs[i : i + 1])[0], logits[i], atol=1e-5, rtol=0)
    # People have no order.
    torch.testing.assert_close(action(pairs.flip(1)), logits, atol=1e-5, rtol=0)


def test_action_heads_are_the_formulas() -> None:
    features = _features(2, 3, 4)
    classifier = ActionClassifier(5, FEATURES)
    randomised(classifier)
    expected = action_classifier(classifier.state_dict(), features)
    torch.testing.assert_close(classifier.eval()(features), expected, atol=1e-5, rtol=1e-5)
    embedding = ActionEmbedding(FEATURES, dim=30)
    vectors = embedding(features)
    torch.testing.assert_close(vectors, action_embedding(embedding.state_dict(), features))
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))


def _check_gradients(module: nn.Module, without: set[str]) -> None:
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        largest = parameter.grad.abs().max().item()
        # What batch normalisation subtracts has no effect; rounding leaves a residue, in float64 a tiny one.
        assert largest < 1e-11 if name in without else largest > 1e-8, (name, largest)


def test_every_parameter_of_the_mesh_model_learns() -> None:
    torch.manual_seed(0)
    model = MotionBertMesh(DSTformer(BACKBONE), MeshHead(FEATURES, hidden=20)).double().train()
    target, _ = random_params(12, 0)
    estimate = model(_clips(3, 4).double(), step_keys(torch.arange(3), 0))
    loss = 100 * (estimate.rotations - target.rotations.reshape(3, 4, 24, 3, 3)).abs().mean()
    (loss + 100 * (estimate.betas - target.betas[:3]).abs().mean()).backward()
    _check_gradients(model, without={"head.fc1.bias", "head.fc2.bias"})
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"backbone.head.weight", "backbone.head.bias"}


@pytest.mark.parametrize("kind", ["class", "embed"])
def test_every_parameter_of_the_action_models_learns(kind: str) -> None:
    torch.manual_seed(0)
    head = ActionClassifier(3, FEATURES) if kind == "class" else ActionEmbedding(FEATURES, dim=30)
    model = MotionBertAction(DSTformer(BACKBONE), head).double().train()
    output = model(_clips(4, 2, 5).double(), step_keys(torch.arange(4), 0))
    labels = torch.tensor([0, 1, 2, 0])
    (100 * nn.functional.cross_entropy(output, labels)).backward()
    _check_gradients(model, without={"head.fc1.bias"} if kind == "class" else set())


@pytest.mark.parametrize("kind", ["mesh", "class", "embed"])
def test_dropout_follows_the_keys_and_nothing_else(kind: str) -> None:
    shape = (4, 5) if kind == "mesh" else (4, 2, 5)
    features, keys = _features(*shape), step_keys(torch.arange(4), 0)
    heads = {
        "mesh": MeshHead(FEATURES, hidden=20),
        "class": ActionClassifier(5, FEATURES),
        "embed": ActionEmbedding(FEATURES, dim=30),
    }
    randomised(heads[kind])
    head = heads[kind].eval()

    def run(values: Tensor, chosen: Tensor | None = None) -> Tensor:
        output = head(values, chosen)
        return torch.cat([output.rotations.flatten(1), output.betas], 1) if kind == "mesh" else output

    free, dropped = run(features), run(features, keys)
    assert (free - dropped).abs().amax(1).min().item() > 1e-3
    assert torch.equal(run(features, keys), dropped)
    torch.testing.assert_close(run(features[2:3], keys[2:3])[0], dropped[2], atol=1e-5, rtol=0)
    assert (run(features, step_keys(torch.arange(4), 1)) - dropped).abs().amax(1).min().item() > 1e-3
    head.dropout = 0.0
    assert torch.equal(run(features, keys), free)


def test_dropout_keeps_the_expectation() -> None:
    """Of the scores, before they are made nonlinear: the first layer of a classifier whose other layers pass it on."""
    head = ActionClassifier(4, FEATURES, dropout=0.5).eval()
    features = _features(1, 1, 2)
    with torch.no_grad():
        head.bn.bias += 100  # far from where ReLU bends
        free = head(features)[0]
        many = head(features.expand(4000, -1, -1, -1, -1), step_keys(torch.arange(4000), 0))
    error = (many.mean(0) - free).abs()
    assert bool((many.std(0) > 0).all())
    assert bool((error < 5 * many.std(0) / 4000**0.5 + 1e-4).all())
