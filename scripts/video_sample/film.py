"""People in clothes on a stage, with the looks and the light of the synthetic people, drawn frame by frame."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.datasets.painting.appearance import CLOTHES_NUMBERS, BodyMap, draw_appearance, paint, thickness
from diffhmr.datasets.painting.backgrounds import BACKGROUND_NUMBERS, ProceduralScene
from diffhmr.datasets.painting.dice import LookStream, cast
from diffhmr.datasets.painting.effects import gaussian_blur
from diffhmr.datasets.painting.objects import PixelGrid
from diffhmr.datasets.painting.skinning import SubsetSkinner
from diffhmr.datasets.painting.textures import TextureBank
from diffhmr.geometry.camera import project
from diffhmr.render.raster import rasterize
from diffhmr.render.shade import Lights, interpolate, irradiance
from scripts.video_sample.stage import Camera

_SUPERSAMPLE = 2
_TO_LIGHT = (0.45, 0.8, 0.4)  # direction of the main light in the world
_FILL = (-0.7, 0.3, 0.6)
_COLOURS = ((0.68, 0.66, 0.62), (0.2, 0.21, 0.24))  # of both
_AMBIENT = (0.38, 0.39, 0.41)
_SHADOW = 0.45
_SHADOW_BLUR = 2.0  # pixels
_LENS_BLUR = 0.45


class Film:
    """Draws actors before one background; frame by frame, whatever came before.

    Args:
        body: of everybody.
        camera: that looks at them.
        background: seed of what is behind them.
    """

    def __init__(self, body: BodyModel, camera: Camera, background: int) -> None:
        self.camera = camera
        self.faces = body.faces
        self.skinner = SubsetSkinner(body, torch.arange(body.num_vertices))
        self.where = BodyMap.of(body)
        self.static = torch.cat([self.skinner.rest, self.skinner.rest_normals[2:]]).T.contiguous()
        side = max(camera.size)
        device = torch.device("cpu")
        dice = cast(np.array([background], np.int64), LookStream.BACKGROUND, BACKGROUND_NUMBERS)[0]
        scene = ProceduralScene(TextureBank(side, device), PixelGrid(side, device)).paint(dice)
        top = (side - camera.size[1]) // 2
        self.background = scene[:, top : top + camera.size[1], : camera.size[0]].clamp(0, 1)
        turn = torch.from_numpy(camera.rotation).float()
        directions = functional.normalize(torch.tensor([_TO_LIGHT, _FILL]) @ turn.T, dim=-1)
        self.lights = Lights(directions[None], torch.tensor([_COLOURS]), torch.tensor([_AMBIENT]))

    def draw(self, people: list[tuple[SmplParams, int]]) -> tuple[NDArray[np.uint8], list[Tensor]]:
        """One frame: ``[H, W, 3]`` uint8 RGB, and the depths ``[H, W]`` of everybody, infinite beside them.

        Args:
            people: parameters ``[]`` with ``transl`` and the seed of what they wear.
        """
        width, height = (side * _SUPERSAMPLE for side in self.camera.size)
        empty = self._with_shadows([params for params, _ in people])[None]
        picture = functional.interpolate(empty, (height, width), mode="bilinear", align_corners=False)[0]
        nearest = torch.full((height, width), torch.inf)
        depths = []
        for params, look in people:
            colour, depth = self._person(params, look, height, width)
            front = depth < nearest
            picture = torch.where(front, colour, picture)
            nearest = torch.minimum(depth, nearest)
            depths.append(depth[::_SUPERSAMPLE, ::_SUPERSAMPLE])
        small = functional.avg_pool2d(picture[None], _SUPERSAMPLE)[0]
        pixels = gaussian_blur(small, _LENS_BLUR).clamp(0, 1).mul(255).round().byte()
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), depths

    def _person(self, params: SmplParams, look: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Colours ``[3, H, W]`` and depths ``[H, W]`` of one person alone."""
        clothes = draw_appearance(cast(np.array([look], np.int64), LookStream.CLOTHES, CLOTHES_NUMBERS)[0], self.where)
        offset = thickness([clothes], self.skinner.rest, self.where)
        vertices, normals = self.skinner(params.map(lambda value: value[None]), offset)
        points = vertices.transpose(1, 2)
        screen = (project(points, self.camera.intrinsic) + 0.5) * _SUPERSAMPLE - 0.5
        fragments = rasterize(torch.cat([screen, points[..., 2:]], dim=-1), self.faces, height, width)
        light = interpolate(fragments, self.faces, irradiance(normals.transpose(1, 2), self.lights, 0.2))
        static = interpolate(fragments, self.faces, self.static).T
        colour = paint(clothes, self.where, static[:3], static[3]) * light.T
        return fragments.scatter(colour.T.contiguous(), 0)[0].permute(2, 0, 1), fragments.depth[0]

    def _with_shadows(self, people: list[SmplParams]) -> Tensor:
        """The background ``[3, H, W]`` with the shadows of everybody on the floor."""
        width, height = self.camera.size
        shade = np.zeros((height, width), np.float32)
        turn, eye = torch.from_numpy(self.camera.rotation).float(), torch.from_numpy(self.camera.eye).float()
        towards = torch.tensor(_TO_LIGHT)
        for params in people:
            vertices, _ = self.skinner(params.map(lambda value: value[None]))
            world = vertices[0].T @ turn + eye
            ground = world - (world[:, 1:2] / towards[1]) * towards
            seen = (ground - eye) @ turn.T
            pixels = (project(seen, self.camera.intrinsic) * 16).round().int().numpy()
            mask = np.zeros((height, width), np.uint8)
            cv2.fillPoly(mask, list(pixels[self.faces.numpy()]), 255, cv2.LINE_8, 4)
            shade = np.maximum(shade, mask.astype(np.float32) / 255)
        soft = cv2.GaussianBlur(shade, (0, 0), _SHADOW_BLUR)
        return self.background * (1 - _SHADOW * torch.from_numpy(soft))
