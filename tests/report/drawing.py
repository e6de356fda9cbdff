"""The drawing of a host on the page: boxes and arrows with their places, for two widths. It draws what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

GOOD, BAD, UNKNOWN = "good", "bad", "unknown"
NODE = 52  # height of a box
GAP = 12
HEAD = 30  # above the boxes of a site: its name


@dataclass
class Box:
    """A box with its title, a line below it and a state; a frame is one that holds others."""

    title: str
    line: str = ""
    state: str = UNKNOWN
    frame: bool = False
    fault: str = "down"  # what is said beside the title where the state is bad
    x: int = 0
    y: int = 0
    width: int = 0
    height: int = NODE
    shown: int = 80  # characters of a line that fit, and of a title
    titled: int = 60

    def at(self, x: int, y: int, width: int, height: int = NODE) -> Box:
        """Put it somewhere; return it."""
        self.x, self.y, self.width, self.height = x, y, width, height
        self.shown, self.titled = int((width - 22) / 6.4), int((width - 22) / 8)
        return self

    @property
    def middle(self) -> int:
        """The height of its middle."""
        return self.y + self.height // 2

    def cut(self, text: str, room: int) -> str:
        """Return a text as it fits."""
        return text if len(text) <= room else text[: room - 1] + "…"


@dataclass
class Arrow:
    """A way from one box to another: SVG path data, and whether both ends are there."""

    path: str
    state: str
    words: str


@dataclass
class Drawing:
    """What is drawn, and how large."""

    width: int
    height: int = 0
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)


def running(host: dict[str, Any], *units: str) -> str:
    """Return whether all of some units run, as the host said."""
    if not host["units"]:
        return UNKNOWN
    states = {unit["name"]: unit["active"] for unit in host["units"]}
    return GOOD if all(states.get(unit) == "active" for unit in units) else BAD


def waits(host: dict[str, Any], *ports: int | None) -> str:
    """Return whether somebody listens at each of some ports."""
    if not host["listeners"]:
        return UNKNOWN
    heard = {row["port"] for row in host["listeners"] if row["protocol"] == "tcp"}
    return GOOD if {port for port in ports if port} <= heard else BAD


def worst(*states: str) -> str:
    """Return the state of a thing that has several."""
    return BAD if BAD in states else UNKNOWN if UNKNOWN in states else GOOD


def connected(host: dict[str, Any], port: int) -> str:
    """Return how many connections to a port are open; that nobody looked, where nobody did."""
    if not host["listeners"]:
        return "not looked at"
    count = int(host["connections"].get(str(port), 0))
    return f"{count} connection{'' if count == 1 else 's'}"


@dataclass
class Site:
    """The boxes of a site."""

    frame: Box
    wsgi: Box
    daphne: Box | None
    commands: Box | None
    path: str
    topics: bool

    @property
    def boxes(self) -> list[Box]:
        """Those within the frame, from above."""
        return [box for box in (self.wsgi, self.daphne, self.commands) if box]

    def put(self, x: int, y: int, width: int) -> int:
        """Put it somewhere; return where it ends."""
        below = y + HEAD
        for box in self.boxes:
            box.at(x + 10, below, width - 20)
            below += NODE + GAP
        self.frame.at(x, y, width, below - y)
        return below


def site_boxes(host: dict[str, Any], site: dict[str, Any]) -> Site:
    """Return the boxes of one site, without a place."""
    wsgi, looked = site["wsgi"], bool(host["units"])
    enough = wsgi["running"] >= max(1, wsgi["processes"])
    state = (GOOD if enough else BAD) if looked else UNKNOWN
    # more where a host has more cores, with as many threads in all
    count = (
        f"{wsgi['running']} of {max(wsgi['running'], wsgi['processes'])}"
        if looked
        else wsgi["processes"]
    )
    line = f"{count} processes, {wsgi['processes'] * wsgi['threads']} threads in all"
    daphne = None
    if site["daphne"]:
        told = site["daphne"]
        units = [
            f"daphne-{site['name']}@{number}.service" for number in range(1, told["instances"] + 1)
        ]
        states = {unit["name"]: unit["active"] for unit in host["units"]}
        up = sum(states.get(unit) == "active" for unit in units)
        daphne = Box(
            f"Daphne :{told['port']}",
            (f"{up} of " if looked else "")
            + f"{told['instances']} instances, {connected(host, told['port'])}",
            worst(running(host, *units), waits(host, told["port"])),
            fault="degraded" if up else "down",
        )
    prefix = f"django-{site['name']}."
    ours = [unit for unit in host["units"] if unit["name"].startswith(prefix)]
    timed = {
        unit["name"].removesuffix(".timer") for unit in ours if unit["name"].endswith(".timer")
    }
    # what a timer starts rests between two times
    awake = [unit for unit in ours if unit["name"].removesuffix(".service") not in timed]
    commands = None
    if awake:
        names = []
        for unit in awake:
            name, _, kind = unit["name"].removeprefix(prefix).rpartition(".")
            names.append(f"{name} (timer)" if kind == "timer" else name)
        commands = Box(
            "Commands",
            ", ".join(sorted(names)),
            GOOD if all(unit["active"] == "active" for unit in awake) else BAD,
        )
    paths = ", ".join(site["websocket_paths"])
    frame = Box(f"site {site['name']}", frame=True)
    return Site(
        frame, Box("Django in mod_wsgi", line, state), daphne, commands, paths, bool(site["topics"])
    )


def elsewhere(hosts: list[dict[str, Any]], host: dict[str, Any], what: str) -> str:
    """Return the name of another host that has Kafka or ZooKeeper, empty without one."""
    return next(
        (other["name"] for other in hosts if other is not host and other["ports"][what]), ""
    )


@dataclass
class Parts:
    """The boxes of a host."""

    frame: Box
    visitors: Box | None
    apache: Box | None
    sites: list[Site]
    kafka: Box | None
    zookeeper: Box | None


def parts(hosts: list[dict[str, Any]], host: dict[str, Any]) -> Parts:
    """Return the boxes of a host, without their places."""
    ports = host["ports"]
    apache = None
    if ports["http"]:
        open_at = [port for port in (ports["http"], ports["https"]) if port]
        state = worst(running(host, "apache2.service"), waits(host, *open_at))
        apache = Box("Apache", " ".join(f":{port}" for port in open_at), state)
    sites = [site_boxes(host, site) for site in host["sites"]]
    found: dict[str, Box | None] = {}
    for name, label in (("kafka", "Kafka"), ("zookeeper", "ZooKeeper")):
        port, other = ports[name], elsewhere(hosts, host, name)
        found[name] = None
        if port:
            state = worst(running(host, f"{name}.service"), waits(host, port))
            found[name] = Box(f"{label} :{port}", connected(host, port), state)
        elif other and (
            (name == "kafka" and any(site.topics for site in sites))
            or (name == "zookeeper" and ports["kafka"])
        ):
            found[name] = Box(label, f"on {other}")
    visitors = Box("Visitors", "the network", GOOD) if apache else None
    return Parts(
        Box(host["name"], frame=True), visitors, apache, sites, found["kafka"], found["zookeeper"]
    )


def arrow(start: Box, end: Box, path: str, words: str) -> Arrow:
    """Return an arrow; it is disturbed where one of its ends is."""
    return Arrow(
        path,
        BAD if BAD in (start.state, end.state) else GOOD,
        f"{start.title} → {end.title}: {words}",
    )


def collect(drawing: Drawing, found: Parts) -> Drawing:
    """Put all boxes into the drawing, frames first."""
    frames = [found.frame, *(site.frame for site in found.sites)]
    inner = [box for site in found.sites for box in site.boxes]
    single = [box for box in (found.visitors, found.apache, found.kafka, found.zookeeper) if box]
    drawing.boxes = [*frames, *single, *inner]
    return drawing


def wide(found: Parts) -> Drawing:
    """Lay out from left to right."""
    drawing = Drawing(width=1000)
    left = 180 if found.apache else 20
    top = y = HEAD + 10
    if found.apache:
        left = 390
    for site in found.sites:
        y = site.put(left, y, 310) + GAP
    right = 790 if found.sites else left
    bottom = max(y - GAP, top + NODE)
    if found.kafka:
        found.kafka.at(right, top + 10, 190)
        bottom = max(bottom, found.kafka.y + NODE)
    if found.zookeeper:
        found.zookeeper.at(right, top + 10 + (NODE + 44 if found.kafka else 0), 190)
        bottom = max(bottom, found.zookeeper.y + NODE)
    if found.apache and found.visitors:
        middle = (top + bottom) // 2 - NODE // 2
        found.visitors.at(0, middle, 120)
        found.apache.at(190, middle, 130)
        line = f"M120 {found.apache.middle} H190"
        drawing.arrows.append(arrow(found.visitors, found.apache, line, "every connection"))
        for site in found.sites:
            for box, lane, words in (
                (site.wsgi, 350, "pages"),
                (site.daphne, 362, f"WebSockets {site.path}"),
            ):
                if box:
                    path = f"M320 {found.apache.middle} H{lane} V{box.middle} H{box.x}"
                    drawing.arrows.append(arrow(found.apache, box, path, words))
    arrows_of_kafka(drawing, found, wide_ways)
    edge = 150 if found.apache else 0
    found.frame.at(edge, 0, 1000 - edge, bottom + 20)
    drawing.height = bottom + 22
    return collect(drawing, found)


def wide_ways(kafka: Box, site: Site) -> tuple[str, str]:
    """Return the ways from Django to Kafka and from Kafka to Daphne."""
    end = site.wsgi.x + site.wsgi.width
    there = f"M{end} {site.wsgi.middle} H745 V{kafka.middle - 10} H{kafka.x}"
    back = (
        f"M{kafka.x} {kafka.middle + 10} H760 V{site.daphne.middle} H{end}" if site.daphne else ""
    )
    return there, back


def arrows_of_kafka(
    drawing: Drawing, found: Parts, ways: Callable[[Box, Site], tuple[str, str]]
) -> None:
    """Draw what goes to and comes from Kafka."""
    if not found.kafka:
        return
    for site in found.sites:
        there, back = ways(found.kafka, site)
        if site.topics:
            drawing.arrows.append(arrow(site.wsgi, found.kafka, there, "a record for each change"))
        if site.topics and site.daphne:
            drawing.arrows.append(arrow(found.kafka, site.daphne, back, "every record"))
    if found.zookeeper:
        x = found.kafka.x + found.kafka.width // 2
        path = f"M{x} {found.zookeeper.y} V{found.kafka.y + NODE}"
        drawing.arrows.append(
            arrow(found.zookeeper, found.kafka, path, "who leads, which topics there are")
        )


def narrow(found: Parts) -> Drawing:
    """Lay out from above to below."""
    drawing = Drawing(width=340)
    y = 0
    if found.visitors:
        found.visitors.at(20, 0, 300)
        y = NODE + 26
    top = y
    y += HEAD
    if found.apache and found.visitors:
        found.apache.at(12, y, 316)
        path = f"M170 {NODE} V{y}"
        drawing.arrows.append(arrow(found.visitors, found.apache, path, "every connection"))
        y += NODE + 26
    for site in found.sites:
        y = site.put(34, y, 254) + GAP
        for box, words in ((site.wsgi, "pages"), (site.daphne, f"WebSockets {site.path}")):
            if found.apache and box:
                path = f"M22 {found.apache.y + NODE} V{box.middle} H{box.x}"
                drawing.arrows.append(arrow(found.apache, box, path, words))
    y += 14 if found.sites else 0
    for box in (found.kafka, found.zookeeper):
        if box:
            box.at(12, y, 316)
            y += NODE + 30
    arrows_of_kafka(drawing, found, narrow_ways)
    found.frame.at(0, top, 340, y - top - 14)
    drawing.height = y - 12
    return collect(drawing, found)


def narrow_ways(kafka: Box, site: Site) -> tuple[str, str]:
    """Return the ways from Django to Kafka and from Kafka to Daphne."""
    end = site.wsgi.x + site.wsgi.width
    there = f"M{end} {site.wsgi.middle} H302 V{kafka.y}"
    back = f"M318 {kafka.y} V{site.daphne.middle} H{end}" if site.daphne else ""
    return there, back


def drawings(hosts: list[dict[str, Any]], host: dict[str, Any]) -> dict[str, Drawing]:
    """Return both drawings of a host, of those that the inventory has."""
    return {"wide": wide(parts(hosts, host)), "narrow": narrow(parts(hosts, host))}
