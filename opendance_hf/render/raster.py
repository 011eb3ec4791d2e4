"""The inner loops of the renderer, compiled by numba (cached on disk beside this file after the first run)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any

#: Triangles that come closer to the camera than this are not drawn, metres.
NEAR_M = 0.05


@njit(cache=True, nogil=True)
def shade(vertices: Array, faces: Array, base: Array, eye: Array, light: Array) -> Array:
    """(V, 3) colours, 0 to 255: one soft light, a bright sky, a dim floor and darker rims that part bodies."""
    normal = np.zeros_like(vertices)
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = (
            vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2],
        )  # fmt: skip
        vx, vy, vz = (
            vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2],
        )  # fmt: skip
        for corner in range(3):
            at = faces[f, corner]
            normal[at, 0] += uy * vz - uz * vy
            normal[at, 1] += uz * vx - ux * vz
            normal[at, 2] += ux * vy - uy * vx
    colour = np.empty_like(vertices)
    for v in range(len(vertices)):
        nx, ny, nz = normal[v, 0], normal[v, 1], normal[v, 2]
        length = np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-12)
        nx, ny, nz = nx / length, ny / length, nz / length
        wx, wy, wz = eye[0] - vertices[v, 0], eye[1] - vertices[v, 1], eye[2] - vertices[v, 2]
        facing = (nx * wx + ny * wy + nz * wz) / np.sqrt(wx * wx + wy * wy + wz * wz)
        direct = max((nx * light[0] + ny * light[1] + nz * light[2] + 0.25) / 1.25, 0.0)
        rim = 1.0 - 0.42 * (1.0 - max(facing, 0.0)) ** 3
        strength = (0.40 + 0.16 * ny + 0.62 * direct) * rim
        gloss = 26.0 * direct**12
        for a in range(3):
            colour[v, a] = min(base[v, a] * strength + gloss, 255.0)
    return colour


@njit(cache=True, nogil=True)
def draw_triangles(
    screen: Array, faces: Array, colour: Array, label: int, depth: Array, image: Array, labels: Array
) -> None:
    """Draw triangles into a depth buffer (inverse depth, 0 is infinitely far), an image and a label picture.

    ``screen`` (V, 3) holds pixel x, pixel y and depth in metres. Faces that turn away are skipped.
    """
    height, width = depth.shape
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        if screen[i, 2] < NEAR_M or screen[j, 2] < NEAR_M or screen[k, 2] < NEAR_M:
            continue
        x0, y0, x1, y1, x2, y2 = (
            screen[i, 0], screen[i, 1], screen[j, 0], screen[j, 1], screen[k, 0], screen[k, 1],
        )  # fmt: skip
        # y points down on the screen, so outside faces have negative area.
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area >= -1e-9:
            continue
        left = max(int(np.floor(min(x0, x1, x2) - 0.5)), 0)
        right = min(int(np.ceil(max(x0, x1, x2))) + 1, width)
        top = max(int(np.floor(min(y0, y1, y2) - 0.5)), 0)
        bottom = min(int(np.ceil(max(y0, y1, y2))) + 1, height)
        if left >= right or top >= bottom:
            continue
        near0, near1, near2 = 1 / screen[i, 2], 1 / screen[j, 2], 1 / screen[k, 2]
        # Shares of the corners change by constants from pixel to pixel.
        a_dx, a_dy = (y1 - y2) / area, (x2 - x1) / area
        b_dx, b_dy = (y2 - y0) / area, (x0 - x2) / area
        px, py = left + 0.5, top + 0.5
        a_row = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) / area
        b_row = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) / area
        for y in range(top, bottom):
            a, b = a_row, b_row
            for x in range(left, right):
                c = 1 - a - b
                if a >= 0 and b >= 0 and c >= 0:
                    near = a * near0 + b * near1 + c * near2
                    if near > depth[y, x]:
                        depth[y, x] = near
                        labels[y, x] = label
                        for channel in range(3):
                            image[y, x, channel] = np.uint8(
                                a * colour[i, channel] + b * colour[j, channel] + c * colour[k, channel]
                            )
                a += a_dx
                b += b_dx
            a_row += a_dy
            b_row += b_dy


@njit(cache=True, nogil=True)
def cast_shadows(image: Array, ground: Array, blobs: Array, boxes: Array) -> None:
    """Darken the floor of ``image`` (H, W, 3) under blobs (N, 4): x, z, radius in metres, strength 0 to 1.

    ``ground`` (H, W, 2) is the floor's x and z at a pixel, NaN above the horizon; ``boxes`` (N, 4) the pixel
    columns and rows each blob can touch.
    """
    height, width = image.shape[:2]
    if len(blobs) == 0:
        return
    left, right = max(boxes[:, 0].min(), 0), min(boxes[:, 1].max(), width)
    top, bottom = max(boxes[:, 2].min(), 0), min(boxes[:, 3].max(), height)
    if left >= right or top >= bottom:
        return
    clear = np.ones((bottom - top, right - left), np.float32)
    for n in range(len(blobs)):
        inverse = np.float32(1 / blobs[n, 2] ** 2)
        for y in range(max(boxes[n, 2], top), min(boxes[n, 3], bottom)):
            for x in range(max(boxes[n, 0], left), min(boxes[n, 1], right)):
                dx, dz = ground[y, x, 0] - blobs[n, 0], ground[y, x, 1] - blobs[n, 1]
                fall = np.float32(1) - (dx * dx + dz * dz) * inverse
                if fall > 0:
                    clear[y - top, x - left] *= np.float32(1) - blobs[n, 3] * fall * fall
    for y in range(top, bottom):
        for x in range(left, right):
            keep = clear[y - top, x - left]
            if keep < 1:
                keep = 0.35 + 0.65 * keep
                for channel in range(3):
                    image[y, x, channel] = np.uint8(image[y, x, channel] * keep)


@njit(cache=True, nogil=True)
def resolve(
    image: Array, depth: Array, fine: Array, scale: int, left: int, right: int, top: int, bottom: int
) -> None:
    """Average the ``scale`` x ``scale`` fine samples of every pixel of a box over the picture below."""
    total = scale * scale
    for y in range(top, bottom):
        for x in range(left, right):
            hits = 0
            red, green, blue = 0, 0, 0
            for sy in range(y * scale, y * scale + scale):
                for sx in range(x * scale, x * scale + scale):
                    if depth[sy, sx] > 0:
                        hits += 1
                        red += fine[sy, sx, 0]
                        green += fine[sy, sx, 1]
                        blue += fine[sy, sx, 2]
            if hits:
                rest = total - hits
                image[y, x, 0] = (red + rest * image[y, x, 0]) // total
                image[y, x, 1] = (green + rest * image[y, x, 1]) // total
                image[y, x, 2] = (blue + rest * image[y, x, 2]) // total


@njit(cache=True, nogil=True)
def draw_strokes(image: Array, ends: Array, radius: float, colour: Array) -> None:
    """Draw round-ended strokes with smooth edges into ``image`` (H, W, 3): ``ends`` (N, 4) are x, y of both ends, pixels.

    A stroke of no length is a disc.
    """
    height, width = image.shape[:2]
    reach = radius + 0.5
    for n in range(len(ends)):
        x0, y0, x1, y1 = ends[n, 0], ends[n, 1], ends[n, 2], ends[n, 3]
        left, right = max(int(min(x0, x1) - reach), 0), min(int(max(x0, x1) + reach) + 1, width)
        top, bottom = max(int(min(y0, y1) - reach), 0), min(int(max(y0, y1) + reach) + 1, height)
        dx, dy = x1 - x0, y1 - y0
        square = max(dx * dx + dy * dy, 1e-9)
        for y in range(top, bottom):
            for x in range(left, right):
                px, py = x + 0.5 - x0, y + 0.5 - y0
                along = min(max((px * dx + py * dy) / square, 0.0), 1.0)
                away = np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2)
                cover = min(max(reach - away, 0.0), 1.0)
                if cover > 0:
                    for channel in range(3):
                        old = image[y, x, channel]
                        image[y, x, channel] = np.uint8(old + cover * (colour[channel] - old) + 0.5)
