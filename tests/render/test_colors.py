from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch

from diffhmr.render.colors import (
    PALETTE,
    as_rows,
    blank,
    color_bar,
    person_colour,
    round_up,
    shortened,
    text_width,
    viridis,
    write_text,
)


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of RGB ``[N, 3]`` in [0, 1]."""
    return cv2.cvtColor(rgb.astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0, :, 0]


def test_the_map_is_perceptually_ordered() -> None:
    ramp = viridis(torch.linspace(0, 1, 101)).numpy()
    steps = np.diff(lightness(ramp))
    assert (steps > 0).all() and steps.max() < 2.5 * steps.mean(), "brighter is more, without jumps"


def test_the_map_stays_ordered_for_the_colour_blind() -> None:
    # Simulation of deuteranopia (Machado, Oliveira and Fernandes 2009, severity 1), in linear RGB.
    matrix = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]])
    linear = viridis(torch.linspace(0, 1, 51)).numpy() ** 2.2
    seen = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2)
    assert (np.diff(lightness(seen)) > 0).all()


def test_the_ends_and_what_lies_beyond() -> None:
    values = viridis(torch.tensor([-1.0, 0.0, 1.0, 7.0]))
    assert torch.equal(values[0], values[1]) and torch.equal(values[2], values[3])
    assert values[1, 2] > values[1, 1], "dark blue"
    assert values[3, 0] > 0.9 and values[3, 1] > 0.8 and values[3, 2] < 0.3, "yellow"
    assert viridis(torch.zeros(2, 5)).shape == (2, 5, 3)


def test_people_have_different_colours() -> None:
    colours = torch.stack([person_colour(index) for index in range(len(PALETTE))])
    for first, second in itertools.combinations(colours, 2):
        assert (first - second).abs().max() > 0.15
    assert torch.equal(person_colour(len(PALETTE)), person_colour(0))


@pytest.mark.parametrize(
    ("value", "expected"), [(0.7, 0.8), (1, 1), (1.01, 1.2), (37, 40), (90, 100), (0, 1), (2.4e-3, 2.4e-3)]
)
def test_scales_end_at_readable_numbers(value: float, expected: float) -> None:
    assert round_up(value) == pytest.approx(expected)


def test_the_bar_is_the_map_upside_down() -> None:
    bar = color_bar(300, 80, "mm", clipped=True)
    assert bar.shape[0] == 300 and bar.shape[1] >= 14 + text_width("mm")
    ramp = viridis(torch.linspace(1, 0, 220)).mul(255).round().byte().numpy()
    assert np.array_equal(bar[40:260, 20], ramp)
    for row in (40, 95, 150, 204, 259):
        assert (bar[row - 8 : row + 8, 48:] < 150).any(), "marks have numbers"
    assert color_bar(300, 80, "mm", clipped=False).shape[1] < bar.shape[1], "no sign for 'or more'"
    wide = color_bar(300, 80, "a rather long heading", clipped=False)
    assert not (wide[:, -5:] < 150).any(), "nothing is cut off"


def test_text_is_written_where_it_should() -> None:
    picture = blank(40, 200)
    write_text(picture, "spread", (10, 30))
    columns = np.nonzero((picture < 150).any((0, 2)))[0]
    assert columns.min() >= 9 and columns.max() <= 12 + text_width("spread")


def test_seams_make_text_readable_on_anything() -> None:
    picture = np.zeros((40, 200, 3), np.uint8)
    write_text(picture, "0", (10, 30), 1.0, outlined=True)
    assert (picture == 255).all(-1).sum() > 50 and ((picture > 20) & (picture < 40)).all(-1).sum() > 20


def test_other_letters_than_ascii() -> None:
    first, second = blank(40, 200), blank(40, 200)
    write_text(first, "Jos\u00e9 \u4eba", (10, 30))
    write_text(second, "Jose ?", (10, 30))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("width", [20, 60, 150, 1000])
def test_shortened_text_fits(width: int) -> None:
    text = "a_photo_with_a_long_name.jpg, person 3"
    short = shortened(text, width)
    assert text_width(short) <= width or short == "..."
    if text_width(text) <= width:
        assert short == text
    else:
        start, end = short.split("...")
        assert text.startswith(start) and text.endswith(end) and abs(len(start) - len(end)) <= 1


def test_tables_fill_their_rows() -> None:
    black = np.zeros((10, 20, 3), np.uint8)
    table = as_rows([[black, black], [black]], gap=4)
    assert table.shape == (24, 44, 3)
    assert (table[:10, 20:24] > 200).all() and (table[14:, 24:] > 200).all() and (table[14:, :20] == 0).all()
