"""Pictures against geometry that is computed independently, and the promise that a picture is its item's alone."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.body.joints import COCO17_FROM_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.datasets.painting.scene import RenderedPeople, SceneRenderer, render_people
from diffhmr.datasets.people import People, covered
from diffhmr.errors import UserError
from diffhmr.render.raster import rasterize
from tests.datasets.people_samples import some_people, standing_person, take, with_occluder

SIZE = 96


@pytest.fixture(scope="module")
def renderer(free_body: BodyModel) -> SceneRenderer:
    return SceneRenderer(free_body, SIZE)


def equal(first: RenderedPeople, second: RenderedPeople) -> bool:
    return all(torch.equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(RenderedPeople))


def pick(rendered: RenderedPeople, index: Tensor) -> RenderedPeople:
    return RenderedPeople(*(getattr(rendered, f.name)[index] for f in fields(RenderedPeople)))


def visible(rendered: RenderedPeople, index: int = 0) -> dict[str, bool]:
    return dict(zip(SPIN49.joint_names, rendered.visible[index].tolist(), strict=True))


def test_shapes_and_ranges(free_body: BodyModel, renderer: SceneRenderer) -> None:
    rendered = renderer.render(some_people(free_body, 20))
    assert rendered.image.shape == (20, 3, SIZE, SIZE) and rendered.image.dtype == torch.float32
    assert float(rendered.image.min()) >= 0 and float(rendered.image.max()) <= 1
    levels = rendered.image * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4), "pictures have 8 bits"
    assert rendered.part.dtype == torch.int16 and rendered.visible.shape == (20, 49)
    assert torch.equal(rendered.mask, rendered.part >= 0)
    assert torch.equal(rendered.mask, rendered.depth < torch.inf)
    spread = rendered.image.flatten(1).std(1)
    assert float(spread.min()) > 0.01
    assert len({tuple(row) for row in rendered.image.flatten(2).mean(2).tolist()}) == 20, "no two pictures are alike"


def test_a_picture_is_the_same_in_every_batch(free_body: BodyModel, renderer: SceneRenderer) -> None:
    people = some_people(free_body, 37)
    together = renderer.render(people)
    for index in (torch.tensor([5]), torch.tensor([36]), torch.tensor([30, 2, 17, 9]), torch.arange(11, 37)):
        assert equal(renderer.render(take(people, index)), pick(together, index))


def test_a_picture_does_not_depend_on_the_number_of_threads(free_body: BodyModel, renderer: SceneRenderer) -> None:
    people = some_people(free_body, 6)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = renderer.render(people)
        torch.set_num_threads(2)
        two = renderer.render(people)
        assert torch.get_num_threads() == 2, "the setting is left as it was"
    finally:
        torch.set_num_threads(threads)
    assert equal(one, two)


def test_the_silhouette_is_that_of_the_full_mesh(free_body: BodyModel, renderer: SceneRenderer) -> None:
    people = take(some_people(free_body, 40), torch.arange(40))
    people = replace(people, occluders=torch.zeros_like(people.occluders))
    people = replace(people, border=torch.tensor([-1.0, -1, 1, 1]).expand(40, 4))
    rendered = renderer.render(people)
    vertices = free_body(people.params).vertices + people.transl[:, None]
    flat = vertices[..., :2] * (people.focal[:, None, None] / vertices[..., 2:])
    screen = torch.cat([(flat + 1) * (SIZE / 2) - 0.5, vertices[..., 2:]], -1)
    full = rasterize(screen, free_body.faces, SIZE, SIZE)
    both = (full.mask & rendered.mask).flatten(1).sum(1).float()
    overlap = both / (full.mask | rendered.mask).flatten(1).sum(1)
    assert float(both.sum() / full.mask.sum()) > 0.97, "clothes add to the body, they take nothing away"
    assert float(overlap.median()) > 0.85
    shared = full.mask & rendered.mask
    assert float((full.depth - rendered.depth)[shared].abs().median()) < 0.02


def test_front_and_back(free_body: BodyModel, renderer: SceneRenderer) -> None:
    front = visible(renderer.render(standing_person(free_body)))
    assert all(front[SPIN49.joint_names[k]] for k in COCO17_FROM_SPIN49)
    back = visible(renderer.render(standing_person(free_body, np.pi)))
    assert not any(back[name] for name in ("nose", "left_eye", "right_eye"))
    assert all(back[f"{side}_{name}"] for side in ("left", "right") for name in ("shoulder", "elbow", "knee", "heel"))
    assert front["left_big_toe"] and not front["left_heel"]


def test_from_the_side_the_near_half_hides_the_far_one(free_body: BodyModel, renderer: SceneRenderer) -> None:
    people = standing_person(free_body, np.pi / 2)
    left, right = (SPIN49.joint_names.index(f"{side}_wrist") for side in ("left", "right"))
    far, near = ("left", "right") if people.joints3d[0, left, 2] > people.joints3d[0, right, 2] else ("right", "left")
    seen = visible(renderer.render(people))
    assert all(seen[f"{near}_{name}"] for name in ("knee", "ankle", "ear", "heel"))
    assert not any(seen[f"{far}_{name}"] for name in ("wrist", "elbow", "shoulder", "knee", "ear", "heel"))
    assert not seen[f"{near}_elbow"], "the outstretched hand is in front of the elbow"


def test_an_object_hides_what_is_behind_it(free_body: BodyModel, renderer: SceneRenderer) -> None:
    people = standing_person(free_body)
    free = renderer.render(people)
    knee = people.joints2d[0, SPIN49.joint_names.index("left_knee")].tolist()
    hidden = with_occluder(people, knee[0], knee[1], 0.08, 0.12, 0.5, 2.0)
    rendered = renderer.render(hidden)
    assert not visible(rendered)["left_knee"] and visible(free)["left_knee"]
    changed = {name for name in SPIN49.joint_names if visible(rendered)[name] != visible(free)[name]}
    assert changed == {"left_knee"}
    axis = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(1, -1, 2)
    behind = covered(grid, hidden.occluders).view(SIZE, SIZE)
    assert torch.equal(rendered.mask[0], free.mask[0] & ~behind)
    far_away = torch.ones_like(behind)
    rows, columns = behind.nonzero().unbind(1)
    far_away[max(0, rows.min() - 9) : rows.max() + 10, max(0, columns.min() - 9) : columns.max() + 10] = False
    difference = (rendered.image - free.image)[0].abs().amax(0)
    assert float(difference[behind].mean()) > 10 * float(difference[far_away].mean())


def test_beyond_the_border_of_the_photograph_nothing_is_seen(free_body: BodyModel, renderer: SceneRenderer) -> None:
    people = standing_person(free_body)
    cut = replace(people, border=torch.tensor([[-1.0, -1, 1, 0.25]]))
    rendered = renderer.render(cut)
    row = int((0.25 + 1) * SIZE / 2)
    assert float(rendered.image[..., row:, :].max()) == 0 and not rendered.mask[:, row:].any()
    seen = visible(rendered)
    assert seen["nose"] and not seen["left_knee"] and not seen["right_ankle"]


def test_joints_outside_the_crop_are_not_visible(free_body: BodyModel, renderer: SceneRenderer) -> None:
    people = standing_person(free_body)
    shift = torch.tensor([[0.0, 0.9, 0.0]])
    joints2d = people.joints2d + people.focal[:, None, None] * shift[:, None, :2] / (
        people.joints3d[..., 2:] + people.transl[:, None, 2:]
    )
    seen = renderer.render(replace(people, transl=people.transl + shift, joints2d=joints2d)).visible[0]
    outside = (joints2d[0].abs() > 1).any(-1)
    assert bool(outside.any()) and not bool(seen[outside].any())


def test_own_backgrounds(free_body: BodyModel, tmp_path: Path) -> None:
    folder = tmp_path / "rooms" / "kitchen"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "blue.png"), np.full((50, 900, 3), (200, 20, 20), np.uint8))
    people = standing_person(free_body)
    rendered = SceneRenderer(free_body, SIZE, tmp_path / "rooms").render(people)
    behind = rendered.image[0][:, ~rendered.mask[0]].median(1).values
    assert float(behind[2]) > 2 * float(behind[:2].max()), "the blue picture is behind the person"


def test_wrong_background_folders(free_body: BodyModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        SceneRenderer(free_body, SIZE, tmp_path / "nowhere")
    with pytest.raises(UserError, match="no pictures"):
        SceneRenderer(free_body, SIZE, tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"cannot read .*broken\.png"):
        SceneRenderer(free_body, SIZE, tmp_path).render(standing_person(free_body))


def test_render_people_is_the_renderer(free_body: BodyModel, renderer: SceneRenderer) -> None:
    people = some_people(free_body, 3)
    assert equal(render_people(people, free_body, SIZE), renderer.render(people))


def test_nobody_is_an_error(free_body: BodyModel, renderer: SceneRenderer) -> None:
    with pytest.raises(ValueError, match="no people"):
        renderer.render(take(some_people(free_body, 1), slice(0, 0)))


def test_any_body_of_the_format_can_be_drawn(toy_body: BodyModel) -> None:
    rendered = SceneRenderer(toy_body, SIZE).render(some_people(toy_body, 4))
    assert bool((rendered.mask.flatten(1).sum(1) > 20).all())


@pytest.mark.gpu
def test_cuda_draws_nearly_the_same_pictures(free_body: BodyModel, renderer: SceneRenderer) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    people = some_people(free_body, 20)
    moved = {f.name: getattr(people, f.name).to("cuda") for f in fields(People)}
    there = SceneRenderer(copy.deepcopy(free_body).to("cuda"), SIZE).render(People(**moved))
    here = renderer.render(people)
    assert float((there.mask.cpu() != here.mask).float().mean()) < 1e-3
    assert float((there.visible.cpu() != here.visible).float().mean()) < 0.01
    assert float((there.image.cpu() - here.image).abs().mean()) < 0.01
