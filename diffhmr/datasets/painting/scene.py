"""Pictures of people: the body in clothes before a background, behind objects, seen through a camera.

Geometry (skinning, visibility, light) is done for the whole batch; what differs in kind from item to item (clothes,
background, objects, camera) item by item. Each picture is a function of its person alone, bit for bit the same
whatever the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.datasets.painting.appearance import CLOTHES_NUMBERS, Appearance, BodyMap, draw_appearance, paint, thickness
from diffhmr.datasets.painting.backgrounds import BACKGROUND_NUMBERS, PictureFolder, ProceduralScene
from diffhmr.datasets.painting.dice import Dice, LookStream, cast
from diffhmr.datasets.painting.effects import CAMERA_NUMBERS, photograph
from diffhmr.datasets.painting.objects import OBJECT_NUMBERS, PixelGrid, draw_object
from diffhmr.datasets.painting.skinning import SubsetSkinner
from diffhmr.datasets.painting.textures import TextureBank
from diffhmr.datasets.painting.visibility import JointVisibility
from diffhmr.datasets.people import People, covered, inside_border
from diffhmr.random import Seeds
from diffhmr.render.detail import decimate
from diffhmr.render.raster import Fragments, rasterize
from diffhmr.render.shade import Lights, interpolate, irradiance

DETAIL_VERTICES = 1200
_LIGHT_NUMBERS = 40
_NUM_LIGHTS = 3
_CPU_ITEMS = 16  # pictures drawn at once on a CPU: what its cache holds
# Bones whose outline needs more vertices than a torso: head, then wrists, hands, ankles, feet.
_FINE = {15: 1.6, 20: 1.8, 21: 1.8, 22: 1.8, 23: 1.8, 7: 1.8, 8: 1.8, 10: 1.8, 11: 1.8}


@dataclass(frozen=True)
class RenderedPeople:
    """Pictures and what is known about their pixels.

    Attributes:
        image: ``[B, 3, H, W]`` RGB in [0, 1].
        mask: ``[B, H, W]`` bool, pixels that show the person.
        part: ``[B, H, W]`` int16, bone (joint with the largest skinning weight) of the person seen there, or -1.
        depth: ``[B, H, W]`` z in metres of the person seen there, or infinity.
        visible: ``[B, 49]`` bool, the joints of SPIN49 that can be seen; ``visibility.py`` defines it.
    """

    image: Tensor
    mask: Tensor
    part: Tensor
    depth: Tensor
    visible: Tensor


class SceneRenderer:
    """Draws people of one body at one picture size; make it once, call it per batch.

    Raises:
        UserError: ``backgrounds`` is no folder with pictures.
    """

    def __init__(self, body: BodyModel, size: int, backgrounds: Path | None = None) -> None:
        device = body.faces.device
        self.size = size
        self.where = BodyMap.of(body)
        template = body.v_template.unflatten(-1, (3, -1)).T
        density = torch.ones(body.num_vertices, device=device)
        for bone, factor in _FINE.items():
            density[body.parts == bone] = factor
        keep = list(body.landmarks.values())
        index, self.faces = decimate(template, body.faces, DETAIL_VERTICES, density, keep)
        self.skinner = SubsetSkinner(body, index)
        # T-pose position, and whether the surface faces the front, for every vertex.
        self._static = torch.cat([self.skinner.rest, self.skinner.rest_normals[2:]]).T.contiguous()
        self._bank = TextureBank(size, device)
        self._grid = PixelGrid(size, device)
        self._scene = ProceduralScene(self._bank, self._grid)
        self._pictures = None if backgrounds is None else PictureFolder(backgrounds)
        self._visibility = JointVisibility(device)

    @torch.no_grad()
    def render(self, people: People) -> RenderedPeople:
        """Draw ``people [B]``, whose tensors lie where the body does.

        Raises:
            ValueError: there are no people.
        """
        count = len(people)
        if count == 0:
            raise ValueError("there are no people to draw")
        step = _CPU_ITEMS if self._grid.x.device.type == "cpu" else count
        with one_thread():
            pieces = [self._render(_take(people, slice(start, start + step))) for start in range(0, count, step)]
        return RenderedPeople(*(torch.cat([getattr(p, f.name) for p in pieces]) for f in fields(RenderedPeople)))

    def _render(self, people: People) -> RenderedPeople:
        seeds = people.item_seed.cpu().numpy()
        looks = [draw_appearance(dice, self.where) for dice in cast(seeds, LookStream.CLOTHES, CLOTHES_NUMBERS)]
        fragments, light = self._surface(people, looks, cast(seeds, LookStream.LIGHT, _LIGHT_NUMBERS))
        part, depth = self._part(fragments), fragments.depth
        joint_depth = people.joints3d[..., 2] + people.transl[:, None, 2]
        visible = self._visibility.seen_by_person(people.joints2d, joint_depth, part, depth)
        visible &= ~covered(people.joints2d, people.occluders) & inside_border(people.joints2d, people.border)

        photo = self._in_photo(people.border)
        image, hidden = self._images(fragments, light, looks, people, seeds)
        mask = (part >= 0) & photo & ~hidden
        return RenderedPeople(
            image * photo[:, None], mask, torch.where(mask, part, -1), torch.where(mask, depth, torch.inf), visible
        )

    def _surface(self, people: People, looks: list[Appearance], dice: list[Dice]) -> tuple[Fragments, Tensor]:
        """Visible surface of the dressed people and the light on its N pixels, ``[3, N]``."""
        offset = thickness(looks, self.skinner.rest, self.where)
        vertices, normals = self.skinner(people.params, offset)
        x, y, z = (vertices + people.transl[..., None]).unbind(1)
        scale = people.focal[:, None] / z
        u = (x * scale + 1) * (self.size / 2) - 0.5
        v = (y * scale + 1) * (self.size / 2) - 0.5
        fragments = rasterize(torch.stack([u, v, z], -1), self.faces, self.size, self.size)
        lights, wrap = _draw_lights(dice, vertices)
        light = irradiance(normals.transpose(1, 2), lights, wrap)
        return fragments, interpolate(fragments, self.faces, light).T.contiguous()

    def _part(self, fragments: Fragments) -> Tensor:
        """``[B, H, W]`` int16 bone of the vertex nearest to each covered pixel, -1 elsewhere."""
        corner = fragments.pixel_bary.argmax(1, keepdim=True)
        vertex = self.faces[fragments.pixel_face].gather(1, corner).squeeze(1)
        return fragments.scatter(self.skinner.parts[vertex].short(), -1)

    def _in_photo(self, border: Tensor) -> Tensor:
        """``[B, H, W]`` bool, pixels whose centre lies in the photograph."""
        low_x, low_y, high_x, high_y = border[:, :, None, None].unbind(1)
        x, y = self._grid.x, self._grid.y
        return (x >= low_x) & (x <= high_x) & (y >= low_y) & (y <= high_y)

    def _images(
        self, fragments: Fragments, light: Tensor, looks: list[Appearance], people: People, seeds: Seeds
    ) -> tuple[Tensor, Tensor]:
        """Pictures ``[B, 3, H, W]``, made one by one, and the pixels that objects hide ``[B, H, W]``."""
        static = interpolate(fragments, self.faces, self._static).T.contiguous()
        pixels = self.size * self.size
        edges = torch.arange(len(looks) + 1, device=fragments.pixel.device) * pixels
        bounds = torch.searchsorted(fragments.pixel, edges).tolist()
        behind = cast(seeds, LookStream.BACKGROUND, BACKGROUND_NUMBERS)
        before = cast(seeds, LookStream.OBJECT, OBJECT_NUMBERS)
        camera = cast(seeds, LookStream.CAMERA, CAMERA_NUMBERS)
        occluders = people.occluders.tolist()
        images = light.new_zeros(len(looks), 3, self.size, self.size)
        hidden = torch.zeros(len(looks), self.size, self.size, dtype=torch.bool, device=light.device)
        for k, look in enumerate(looks):
            span = slice(bounds[k], bounds[k + 1])
            colour = paint(look, self.where, static[:3, span], static[3, span]) * light[:, span]
            image = self._background(behind[k])
            image.view(3, -1)[:, fragments.pixel[span] - k * pixels] = colour
            for occluder in occluders[k]:
                hidden[k] |= draw_object(image, occluder, before[k], self._grid, self._bank)
            images[k] = photograph(image, camera[k], self._bank)
        return images, hidden

    def _background(self, dice: Dice) -> Tensor:
        if self._pictures is not None:
            return self._pictures.paint(dice, self.size, self._grid.x.device)
        return self._scene.paint(dice)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep a CPU's other cores out: for thousands of small steps, calling them in costs more than they do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _take(people: People, items: slice) -> People:
    """Some of the people."""
    tensors = {f.name: getattr(people, f.name)[items] for f in fields(People) if f.name != "params"}
    return People(params=people.params.map(lambda value: value[items]), **tensors)


def _draw_lights(dice: list[Dice], like: Tensor) -> tuple[Lights, Tensor]:
    """One to three lights per picture, mostly from above, and how far light wraps around edges ``[B]``."""
    directions, colours, ambients, wraps = [], [], [], []
    for item in dice:
        count, strength = 1 + item.integer(_NUM_LIGHTS), item.uniform(0.55, 1.05)
        ambient = item.uniform(0.22, 0.55)
        ambients.append([ambient * item.uniform(0.88, 1.12) for _ in range(3)])
        wraps.append(item.uniform(0.0, 0.5))
        for k in range(_NUM_LIGHTS):
            heading, height = item.uniform(0, 2 * math.pi), item.uniform(-0.25, 1.0)
            level = math.sqrt(1 - height**2)
            directions.append([level * math.sin(heading), -height, -level * math.cos(heading)])
            power = strength * (1.0, 0.5, 0.3)[k] * (k < count)
            colours.append([power * item.uniform(0.85, 1.15) for _ in range(3)])
    batch = len(dice)
    lights = Lights(
        like.new_tensor(directions).view(batch, _NUM_LIGHTS, 3),
        like.new_tensor(colours).view(batch, _NUM_LIGHTS, 3),
        like.new_tensor(ambients).view(batch, 3),
    )
    return lights, like.new_tensor(wraps)


@lru_cache(maxsize=4)
def _renderer(body: BodyModel, size: int, backgrounds: Path | None, _device: torch.device) -> SceneRenderer:
    return SceneRenderer(body, size, backgrounds)


def render_people(people: People, body: BodyModel, size: int, backgrounds: Path | None = None) -> RenderedPeople:
    """Draw ``people`` at ``size`` pixels; the renderers of the last few bodies and sizes are kept."""
    return _renderer(body, size, backgrounds, body.faces.device).render(people)
