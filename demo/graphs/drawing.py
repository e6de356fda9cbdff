"""A graph laid out for SVG, by arithmetic alone."""

import math
from dataclasses import dataclass
from typing import Any

SIZE = 640  # of the square view box
MARGIN = 70
STEPS = 60


@dataclass(frozen=True, slots=True)
class Dot:
    """A node; coordinates in units of the view box."""

    name: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Line:
    """An edge."""

    x1: float
    y1: float
    x2: float
    y2: float


def draw(data: dict[str, Any], arrangement: str = "springs") -> dict[str, Any]:
    """Return the dots and lines of a graph's data, arranged by springs, in a circle or in a grid.

    Springs pull neighbours together and all nodes push each other away (Fruchterman and Reingold,
    1991), from a circle, so that one graph always looks the same. Larger graphs stay on the circle:
    the cost grows with the square of the number of nodes.
    """
    names = data["nodes"]
    count = len(names)
    place = {
        name: complex(
            math.cos(2 * math.pi * index / max(count, 1)),
            math.sin(2 * math.pi * index / max(count, 1)),
        )
        for index, name in enumerate(names)
    }
    edges = [(a, b) for a, b in data["edges"] if a in place and b in place and a != b]
    if arrangement == "grid":
        side = math.ceil(math.sqrt(max(count, 1)))
        place = {name: complex(n % side, n // side) for n, name in enumerate(names)}
    elif arrangement == "springs" and 2 < count <= 60:
        place = _relax(place, edges)
    xs = [point.real for point in place.values()] or [0.0]
    ys = [point.imag for point in place.values()] or [0.0]
    span = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    scale = (SIZE - 2 * MARGIN) / span
    middle = complex((max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2)
    spots = {
        name: (
            round(SIZE / 2 + (point - middle).real * scale, 1),
            round(SIZE / 2 + (point - middle).imag * scale, 1),
        )
        for name, point in place.items()
    }
    return {
        "size": SIZE,
        "dots": [Dot(name, x, y) for name, (x, y) in spots.items()],
        "lines": [Line(*spots[a], *spots[b]) for a, b in edges],
    }


def _relax(place: dict[str, complex], edges: list[tuple[str, str]]) -> dict[str, complex]:
    names = list(place)
    ideal = math.sqrt(4 / len(names))
    for step in range(STEPS):
        push = dict.fromkeys(names, 0j)
        for index, a in enumerate(names):
            for b in names[index + 1 :]:
                apart = place[a] - place[b]
                distance = max(abs(apart), 0.01)
                force = apart / distance * (ideal * ideal / distance)
                push[a] += force
                push[b] -= force
        for a, b in edges:
            apart = place[a] - place[b]
            force = apart * abs(apart) / ideal
            push[a] -= force
            push[b] += force
        most = 0.2 * (1 - step / STEPS)
        for name in names:
            length = abs(push[name]) or 1.0
            place[name] += push[name] / length * min(length, most)
    return place
