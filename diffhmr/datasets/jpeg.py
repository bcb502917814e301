"""Decoding a part of a JPEG picture.

The numbers of a JPEG stream have no fixed length, so that a decoder has to read everything before the part it wants.
Restart markers (ISO/IEC 10918-1, B.2.4.4), which cost 1 to 5 % in size, are places at which it can start: the stretches
between them stand for blocks of the picture of their own. Where every row of blocks begins at a restart marker, a
window of the picture is a JPEG picture made of the stretches inside, with another size in its header.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from diffhmr.errors import UserError

_BLOCKS_PER_RESTART = 8
_START_OF_SCAN, _RESTART_INTERVAL = 0xDA, 0xDD
_SEQUENTIAL_FRAMES = (0xC0, 0xC1)  # Huffman-coded in one pass; others are progressive, lossless or arithmetic
_OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_STANDALONE = (0x00, 0x01, 0xD8, *range(0xD0, 0xD8))


@dataclass(frozen=True)
class JpegHeader:
    """What the header of a JPEG file says.

    Attributes:
        width, height: in pixels.
        block_width, block_height: of the smallest unit of the stream (MCU), in pixels.
        interval: units between two restart markers, 0 for none.
        size_at: position of height and width in the file, two bytes each.
        scan_at: position of the coded picture.
        simple: all colours are coded in one sequential pass.
    """

    width: int
    height: int
    block_width: int
    block_height: int
    interval: int
    size_at: int
    scan_at: int
    simple: bool


@dataclass(frozen=True)
class Window:
    """A part of a picture: columns ``left`` to ``right`` - 1 and rows ``top`` to ``bottom`` - 1 in pixels."""

    left: int
    top: int
    right: int
    bottom: int


def read_header(data: bytes) -> JpegHeader | None:
    """The header of the JPEG file ``data``, or None if it is none or its end is missing."""
    frame, interval, position = b"", 0, 2
    size_at, kind = 0, 0
    while data[:2] == b"\xff\xd8" and 0 <= position <= len(data) - 4:
        marker = data[position + 1]
        if data[position] != 0xFF:  # bytes that belong to nothing, which decoders skip
            position = data.find(b"\xff", position)
            continue
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _RESTART_INTERVAL:
            interval = int.from_bytes(data[position + 4 : position + 6], "big")
        elif marker in _SEQUENTIAL_FRAMES or marker in _OTHER_FRAMES:
            frame, size_at, kind = data[position + 4 : position + 2 + length], position + 5, marker
        elif marker == _START_OF_SCAN:
            scan_at = position + 2 + length
            # Decoders fill the rest of a torn file with grey and say nothing.
            complete = data.rfind(b"\xff\xd9", scan_at) >= 0
            if not complete or len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
                return None
            sampling = [frame[7 + 3 * part] for part in range(frame[5])]
            # A single colour is coded block by block, whatever its sampling factors say.
            across, down = (max(s >> 4 for s in sampling), max(s & 15 for s in sampling)) if frame[5] > 1 else (1, 1)
            height, width = (int.from_bytes(frame[first : first + 2], "big") for first in (1, 3))
            simple = kind in _SEQUENTIAL_FRAMES and frame[0] == 8 and data[position + 4] == frame[5]
            return JpegHeader(width, height, 8 * across, 8 * down, interval, size_at, scan_at, simple)
        position += 2 + length
    return None


def cut_window(data: bytes, header: JpegHeader, window: Window) -> tuple[bytes, int, int] | None:
    """The smallest JPEG picture that holds ``window``, made of pieces of ``data``, and its left and top pixel.

    Its left and top are multiples of 16 at most. None where restart markers are missing or do not fit the rows.
    """
    across, down = (-(-header.width // header.block_width), -(-header.height // header.block_height))
    if not header.simple or not header.interval or across % header.interval:
        return None
    stream = np.frombuffer(data, np.uint8)
    ff = header.scan_at + np.flatnonzero(stream[header.scan_at : -1] == 0xFF)
    following = stream[ff + 1]
    restarts = ff[(following & 0xF8) == 0xD0]
    per_row = across // header.interval
    end = data.rfind(b"\xff\xd9")
    if len(restarts) != per_row * down - 1:
        return None
    # Stretch k runs from edges[k] to edges[k + 1]; each is followed by a marker of two bytes.
    edges = np.concatenate([[header.scan_at], restarts + 2, [end + 2]])
    step = header.interval * header.block_width
    first, last = max(window.left // step, 0), min(-(-window.right // step), per_row)
    top, bottom = max(window.top // header.block_height, 0), min(-(-window.bottom // header.block_height), down)
    begin = (np.arange(top, bottom) * per_row + first).astype(np.int64)
    pieces = [stream[: header.scan_at]]
    pieces += [stream[a:b] for a, b in zip(edges[begin], edges[begin + last - first], strict=True)]
    cut = np.concatenate(pieces)
    lengths = np.diff(edges)[begin[:, None] + np.arange(last - first)].ravel()
    marks = header.scan_at + np.cumsum(lengths) - 1
    cut[marks] = 0xD0 + np.arange(len(marks)) % 8
    cut[marks[-1]] = 0xD9
    height = min(bottom * header.block_height, header.height) - top * header.block_height
    width = min(last * step, header.width) - first * step
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    cut[header.size_at : header.size_at + 4] = np.frombuffer(size, np.uint8)
    return cut.tobytes(), first * step, top * header.block_height


def encode_jpeg(bgr: np.ndarray, quality: int = 95) -> bytes:
    """``bgr [H, W, 3]`` uint8 as a JPEG file with restart markers, so that parts of it can be read quickly.

    Raises:
        UserError: the picture cannot be written as JPEG.
    """
    across = -(-bgr.shape[1] // 16)
    fitting = [count for count in range(1, across + 1) if across % count == 0]
    interval = min(fitting, key=lambda count: abs(count - _BLOCKS_PER_RESTART))
    options = [
        cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, interval,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]  # fmt: skip
    good, encoded = cv2.imencode(".jpg", bgr, options)
    if not good:
        raise UserError(f"cannot write a picture of {bgr.shape[1]} x {bgr.shape[0]} pixels as JPEG")
    return bytes(encoded)
