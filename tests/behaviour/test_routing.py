"""The routing contract (routing.yml), row by row, against a running host."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

from tests.behaviour import rawhttp
from tests.behaviour.conftest import journal
from tests.behaviour.sites import Site, web_sites

TABLE = yaml.safe_load((Path(__file__).parent / "routing.yml").read_text(encoding="utf-8"))
# What stops Daphne comes last, behind the socket that is watched while it idles.
ROWS = sorted(TABLE["rows"], key=lambda row: "disruptive" in row.get("needs", []))
MARKS = {
    "probe": pytest.mark.probe,
    "app": pytest.mark.app,
    "disruptive": pytest.mark.disruptive,
    "other host": pytest.mark.other_host,
    "tls": pytest.mark.tls,
}
MIB = 1 << 20
# Pages while many sockets are open: far above what an idle host needs, far below a page that hangs.
PAGE_SECONDS = 2.0
SOCKETS = 200


@dataclass
class Outcome:
    """What came of one request or event: the status, who answered, and what was seen beside that."""

    status: int | None
    answerer: str
    seen: str = ""

    @classmethod
    def of(cls, response: rawhttp.Response, seen: str = "") -> Outcome:
        return cls(response.status, response.answerer, seen)


@pytest.fixture(scope="module")
def sites(host: Host, deployed: dict[str, Any], address: str) -> list[Site]:
    found = web_sites(deployed, address)
    if not found:
        pytest.skip("the inventory gives this host no site")
    return found


class IdleSocket(threading.Thread):
    """A socket that says nothing, and a message over it at the end."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self.site = site
        # three pings, and longer than the proxy waits: without pings it would be closed by then
        settings = site.settings
        self.seconds = max(
            3 * settings["websocket_ping_interval"], settings["websocket_timeout"] + 2
        )
        self.outcome = Outcome(None, "nobody", "still open")

    def run(self) -> None:
        connection, response = self.site.open(self.site.under("echo"))
        connection.socket.settimeout(1.0)
        end = time.monotonic() + self.seconds
        with connection:
            try:
                while time.monotonic() < end:
                    try:
                        opcode, payload = connection.frame()
                    except rawhttp.TimedOutError:
                        continue
                    self.outcome = Outcome.of(response, f"frame {opcode} {payload!r}")
                    return
                connection.socket.settimeout(15)
                connection.send_frame(b"awake")
                seen = "open" if connection.message() == b"awake" else "another message"
            except rawhttp.ClosedError as error:
                seen = f"closed: {error}"
            self.outcome = Outcome.of(response, seen)


@pytest.fixture(scope="module", autouse=True)
def idle(host: Host, deployed: dict[str, Any], address: str) -> IdleSocket | None:
    """Start the watch at once, so that the other rows pass the time."""
    for site in web_sites(deployed, address):
        if site.is_probe:
            watch = IdleSocket(site)
            watch.start()
            return watch
    return None


def as_bytes(text: str, site: Site) -> bytes:
    """Return a request of the table as it goes over the wire."""
    values = {
        "host": site.host,
        "origin": site.origin,
        "ws": site.socket_path,
        "prefix": site.prefix,
        "page": "/",
        "key": rawhttp.key(),
    }
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    if "\n\n" not in text:
        text += "\n"
    return text.replace("\n", "\r\n").encode("utf-8")


def requests_of(row: dict[str, Any], site: Site) -> Iterator[Outcome]:
    """Send the requests of a row; without an answer in time the outcome is nobody's."""
    for text in row["requests"]:
        # a worker that is held answers nothing: the published rules need not be waited for
        timeout = 6.0 if site.is_seed else 15.0
        try:
            response = site.ask(as_bytes(text, site), timeout)
        except rawhttp.TimedOutError:
            yield Outcome(None, "nobody", "held")
            continue
        if not site.is_seed:
            for name, value in row.get("headers", {}).items():
                told = response.header(name) or ""
                assert value.lower() in told.lower(), f"{site.name}: {name}: {told}"
            if "within" in row:
                assert response.seconds < row["within"], f"{site.name}: {response.seconds:.1f} s"
        yield Outcome.of(response)


def info(site: Site, suffix: str, *headers: str) -> tuple[rawhttp.Response, dict[str, Any]]:
    """Open the probe's info socket and return the response and what Daphne received."""
    with site.connect() as connection:
        connection.send(site.handshake(site.under("info") + suffix, *headers))
        response = connection.response()
        if response.status != 101:
            return response, {}
        return response, json.loads(connection.message())


# --- Events that are more than a request. Each yields its outcomes in the order of the table. ---


def received_unchanged(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    for suffix in row["suffixes"]:
        response, told = info(site, suffix)
        path, _, query = (site.under("info") + suffix).partition("?")
        same = told and told["raw_path"] == path and told["query_string"] == query
        seen = "unchanged" if same else f"{told.get('raw_path')}?{told.get('query_string')}"
        yield Outcome.of(response, seen if told else "")


def subprotocol(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    response, told = info(site, "", "Sec-WebSocket-Protocol: a, b")
    offered = ",".join(told.get("subprotocols", []))
    yield Outcome.of(response, f"{offered}: {response.header('Sec-WebSocket-Protocol')}")


@dataclass
class Client:
    """What one process was told about who asks: address, Host, scheme, and what else was claimed."""

    address: str
    host: str
    scheme: str
    claims: dict[str, str]


CLAIMS = (
    "forwarded",
    "-ip",
    "daphne",
    "script-name",
    "proxy",
    "original",
    "rewrite",
    "scheme",
    "remote-user",
)


def clients(site: Site, *headers: str) -> tuple[rawhttp.Response, Client, Client | None]:
    """Ask over both ways: the handshake's response, what Django was told, and what Daphne was.

    Daphne's is None where it refused the handshake.
    """
    page = site.page("/", 15, *headers).json()
    names = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in page["headers"].items()
    }

    def claims(heads: dict[str, str]) -> dict[str, str]:
        return {name: heads[name] for name in heads if any(word in name for word in CLAIMS)}

    django = Client(page["REMOTE_ADDR"], names["host"], page["scheme"], claims(names))
    response, told = info(site, "", *headers)
    if not told:
        return response, django, None
    heads = dict(told["headers"])
    root = {"root-path": told["root_path"]} if told.get("root_path") else {}
    scheme = heads.get("x-forwarded-proto", "none")
    daphne = Client(told["client"][0], heads["host"], scheme, claims(heads) | root)
    return response, django, daphne


def own_address(site: Site) -> str:
    """Return the address that Apache sees of us."""
    with site.connect() as connection:
        return str(connection.socket.getsockname()[0])


def real(site: Site) -> Client:
    """Return what both processes must be told about us, and nothing else."""
    address = own_address(site)
    claims = {"x-forwarded-for": address, "x-forwarded-proto": site.scheme}
    return Client(address, site.host, site.scheme, claims)


def real_client(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    response, django, daphne = clients(site)
    truth = real(site)
    wrong = [
        f"{who} has {field} {getattr(told, field)}"
        for who, told in (("Django", django), ("Daphne", daphne))
        for field in ("address", "host", "scheme")
        if getattr(told, field) != getattr(truth, field)
    ]
    seen = ", ".join(wrong).replace(site.settings["websocket_backend"], "{backend}")
    yield Outcome.of(response, seen or "real")
    if not site.is_seed:
        assert django == daphne == truth


def connection_names_headers(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    response = site.page("/", 15, "Connection: X-Forwarded-For, X-Forwarded-Proto, X-Request-Id")
    heads = response.json()["headers"]
    told = [heads.get(f"HTTP_X_{name}") for name in ("FORWARDED_FOR", "FORWARDED_PROTO")]
    truth = told == [own_address(site), site.scheme] and heads.get("HTTP_X_REQUEST_ID")
    yield Outcome.of(response, "told the truth" if truth else "told nothing")


SPOOFED = (
    "X-Forwarded-For: 198.51.100.1",
    "X-Forwarded-Host: attacker.example",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Port: 444",
    "X-Forwarded-Server: attacker.example",
    "X-Real-IP: 198.51.100.1",
    "Forwarded: for=198.51.100.1;proto=https;host=attacker.example",
    "Daphne-Root-Path: /attacker",
    "X_Forwarded_For: 198.51.100.1",
    "X-Forwarded-Prefix: /attacker",
    "X-Client-IP: 198.51.100.1",
    "True-Client-IP: 198.51.100.1",
    "CF-Connecting-IP: 198.51.100.1",
    "X-Original-URL: /attacker",
    "X-Rewrite-URL: /attacker",
    "X-Scheme: https",
    "Remote-User: attacker",
    "X-Script-Name: /attacker",
    "Proxy: http://attacker.example",
)


def spoofed_client(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    response, django, daphne = clients(site, *SPOOFED)
    truth = real(site)
    believers = [who for who, told in (("Django", django), ("Daphne", daphne)) if told != truth]
    yield Outcome.of(response, f"reached {' and '.join(believers)}" if believers else "ignored")
    if not site.is_seed:
        assert django == daphne == truth


def listed_proxy(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    """Ask on the host itself: test hosts list 127.0.0.1 in apache_trusted_proxies."""
    listed = host.run("grep -q 'RemoteIPInternalProxy 127.0.0.1' /etc/apache2/conf-enabled/*")
    if listed.rc != 0 and not site.is_seed:
        pytest.skip("apache_trusted_proxies of this host does not list 127.0.0.1")
    source = (Path(__file__).parent / "rawhttp.py").read_text(encoding="utf-8")
    headers = (
        "X-Forwarded-For: 203.0.113.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Prefix: /lab",
    )
    program = f"""
import json, sys, types
rawhttp = sys.modules["rawhttp"] = types.ModuleType("rawhttp")
exec({source!r}, rawhttp.__dict__)
headers = {headers!r}
page = rawhttp.ask("127.0.0.1", {site.port}, rawhttp.get("/", {site.host!r}, headers)).json()
with rawhttp.Connection("127.0.0.1", {site.port}) as connection:
    origin = "https://" + {site.host!r}
    handshake = rawhttp.handshake({site.under("info")!r}, {site.host!r}, origin, headers)
    connection.send(handshake)
    response = connection.response()
    told = json.loads(connection.message()) if response.status == 101 else {{}}
print(json.dumps([response.status, response.answerer, page, told]))
"""
    encoded = base64.b64encode(program.encode()).decode()
    output = host.check_output("echo %s | base64 -d | python3 -", encoded)
    status, answerer, page, told = json.loads(output)
    heads = dict(told.get("headers", []))
    seen = [
        page["REMOTE_ADDR"],
        page["headers"].get("HTTP_X_FORWARDED_PROTO", "-"),
        (told.get("client") or ["-"])[0],
        heads.get("x-forwarded-proto", "-"),
    ]
    if not site.is_seed:
        assert page["headers"].get("HTTP_X_FORWARDED_PREFIX") == "/lab", page
        assert heads.get("x-forwarded-prefix") == "/lab", heads
    believed = ["203.0.113.7", "https"] * 2
    yield Outcome(status, answerer, "believed" if seen == believed else " ".join(seen))


def frame_with_handshake(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    with site.connect() as connection:
        connection.send(site.handshake(site.under("echo")) + rawhttp.frame(b"at once"))
        response = connection.response()
        seen = ""
        # mod_proxy_wstunnel alone answers it or loses it, as it happens: nothing to hold it to
        if response.status == 101 and not site.is_seed:
            seen = "answered" if connection.message() == b"at once" else ""
    yield Outcome.of(response, seen)


def large_message(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    unit = f"daphne-{site.name}@1.service"
    show = ("systemctl show --property=MainPID --value %s", unit)
    before = host.check_output(*show)
    neighbour, _ = site.open(site.under("echo"))
    connection, response = site.open(site.under("echo"))
    with neighbour, connection:
        message = b"m" * MIB
        connection.send_frame(message)
        echoed = connection.message() == message
        try:
            connection.send_frame(message + b"m")
            connection.message()
            dropped = False
        except (rawhttp.ClosedError, BrokenPipeError, ConnectionResetError):
            dropped = True
        neighbour.send_frame(b"still here?")
        unharmed = neighbour.message() == b"still here?"
    assert host.check_output(*show) == before, journal(host, unit)
    seen = ", ".join(
        name
        for name, holds in (("echoed", echoed), ("dropped", dropped), ("others unharmed", unharmed))
        if holds
    )
    yield Outcome.of(response, seen)


def ports_closed(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    if site.address.startswith("127."):
        pytest.skip("the host is this machine: there is no other one to ask from")
    listening = host.check_output("ss -Hltn").splitlines()
    ports = {int(line.split()[3].rsplit(":", 1)[1]) for line in listening}
    assert ports, "nothing listens: ss told nothing"
    answered = []
    for port in sorted(ports - site.outside - {22}):
        try:
            rawhttp.Connection(site.direct, port, 3).close()
            answered.append(port)
        except OSError:
            continue
    yield Outcome(None, "nobody", f"open: {answered}" if answered else "refused")


@contextmanager
def daphne_stopped(host: Host, site: Site) -> Iterator[None]:
    """Stop a site's socket and services, and start them again."""
    units = f"daphne-{site.name}.socket 'daphne-{site.name}@*.service'"
    names = host.check_output(
        f"systemctl list-units --plain --no-legend --type=service 'daphne-{site.name}@*'"
    )
    services = " ".join(line.split()[0] for line in names.splitlines())
    host.check_output(f"systemctl stop {units}")
    try:
        yield
    finally:
        host.check_output(f"systemctl start daphne-{site.name}.socket {services}")


def try_handshake(site: Site, timeout: float) -> Outcome:
    """Shake hands with the echo consumer; `seen` is the time in whole seconds."""
    start = time.monotonic()
    try:
        connection, response = site.open(site.under("echo"), timeout)
    except rawhttp.TimedOutError:
        return Outcome(None, "nobody", "held")
    connection.close()
    seconds = time.monotonic() - start
    return Outcome.of(response, "at once" if seconds < 2 else f"after {seconds:.0f} s")


def daphne_down(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    unit = f"daphne-{site.name}@1.service"
    patience = site.settings["websocket_timeout"] + 5

    def pages_are_fine() -> None:
        page = site.page("/")
        assert (page.status, page.answerer) == (200, "mod_wsgi")
        assert page.seconds < PAGE_SECONDS

    with daphne_stopped(host, site):
        yield try_handshake(site, patience)
        pages_are_fine()

    host.check_output("systemctl stop %s", unit)
    end = time.monotonic() + 90
    outcome = try_handshake(site, patience)
    while outcome.status in (504, None) and time.monotonic() < end:
        outcome = try_handshake(site, patience)  # it starts for longer than Apache waits
    outcome.seen = ""  # as long as the project takes to start
    yield outcome

    host.check_output("systemctl start %s", unit)  # until its own handshake is answered too
    host.check_output("systemctl kill --signal=STOP %s", unit)
    try:
        outcome = try_handshake(site, patience)
        if outcome.seen != "held":
            outcome.seen = ""  # the configured time-out, which the client's own is just above
        yield outcome
        pages_are_fine()
    finally:
        host.check_output("systemctl kill --signal=CONT %s", unit)

    module = f"/srv/{site.name}/current/app/beacon/sockets.py"
    host.check_output("mv %s %s.broken", module, module)
    try:
        host.run("systemctl restart %s", unit)  # until the first start has failed
        assert try_handshake(site, patience).status != 101
        pages_are_fine()
        end = time.monotonic() + 60
        while int(host.check_output("systemctl show --property=NRestarts --value %s", unit)) < 2:
            assert time.monotonic() < end, journal(host, unit)
            time.sleep(0.5)  # between two looks at starts that fail
        pages_are_fine()
    finally:
        host.check_output("mv %s.broken %s", module, module)
    end = time.monotonic() + 90
    outcome = try_handshake(site, 20)
    while outcome.status != 101 and time.monotonic() < end:
        time.sleep(0.5)
        outcome = try_handshake(site, 20)
    outcome.seen = ""
    yield outcome


SMUGGLING_BACKEND = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(10)
        data = b""
        try:
            while True:
                while b"\\r\\n\\r\\n" not in data:
                    more = connection.recv(4096)
                    if not more:
                        raise OSError
                    data += more
                head, _, data = data.partition(b"\\r\\n\\r\\n")
                if head.startswith(b"GET /secret"):
                    connection.sendall(b"HTTP/1.1 200 OK\\r\\nX-Answered-By: backend\\r\\n"
                                       b"Content-Length: 6\\r\\n\\r\\nsecret")
                else:
                    connection.sendall(b"HTTP/1.1 403 Forbidden\\r\\nX-Answered-By: backend\\r\\n"
                                       b"Content-Length: 0\\r\\n\\r\\n")
        except OSError:
            pass
"""


@contextmanager
def backend(host: Host, site: Site, program: str) -> Iterator[None]:
    """Put a small server in the place of a site's Daphne; the program gets the port as its argument."""
    port = site.settings["websocket_backend"].rsplit(":", 1)[1]
    source = base64.b64encode(program.encode()).decode()
    start = f"import base64; exec(base64.b64decode('{source}'))"
    with daphne_stopped(host, site):
        host.check_output("systemd-run --unit=test-backend --collect python3 -c %s %s", start, port)
        try:
            host.check_output(
                "for i in $(seq 50); do ss -Hltn | grep -q :%s && exit; sleep 0.1; done; exit 1",
                port,
            )
            yield
        finally:
            host.run("systemctl stop test-backend.service")


def request_smuggling(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    with backend(host, site, SMUGGLING_BACKEND), site.connect(8) as connection:
        second = rawhttp.get("/secret", site.host)
        connection.send(site.handshake(site.under("deny")))
        first = connection.response()
        try:
            connection.send(second)
            answer = connection.response()
            seen = "reached" if answer.body == b"secret" else "never reached"
        except (rawhttp.ClosedError, rawhttp.TimedOutError, OSError):
            seen = "never reached"
    yield Outcome(first.status, first.answerer, seen)


SILENT_BACKEND = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
"""


def daphne_hangs_up(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    logs = f"/var/log/apache2/{site.name}"
    before = int(host.check_output("wc -c < %s/error.log", logs))
    with backend(host, site, SILENT_BACKEND):
        try:
            response = site.ask(site.handshake(site.under("echo")), 8)
        except (rawhttp.ClosedError, rawhttp.TimedOutError):
            yield Outcome(None, "nobody")
            return
    if response.status is None:
        yield Outcome.of(response, "a page without a head")
        return
    errors = host.check_output("tail -c +%s %s/error.log", str(before + 1), logs)
    logged = json.loads(host.check_output("tail -n 1 %s/access.json", logs))
    once = b"Additionally" not in response.body and "AH00124" not in errors
    once = once and response.body.count(b"<h1>") == 1 and str(logged["status"]) == "502"
    yield Outcome.of(response, "once" if once else f"{logged} {errors}")


def body_without_length(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    head = f"POST / HTTP/1.1\r\nHost: {site.host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    response = site.ask(head + b"7\r\nhello, \r\n5\r\nworld\r\n0\r\n\r\n")
    got = response.json().get("body_bytes") if response.status == 200 else None
    yield Outcome.of(response, {12: "all of it", None: ""}.get(got, f"{got} bytes"))
    limit = site.settings["limit_request_body"]
    with site.connect() as connection:
        try:
            connection.send(head + f"{limit + 1:x}\r\n".encode())
            connection.send(b"x" * (limit + 1))
        except OSError:
            pass  # refused before it was all sent
        yield Outcome.of(connection.response("POST"))


def nothing_of_apaches_own(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    length = "Content-Length: 0"
    for data in (rawhttp.get("/", site.host), rawhttp.get("/", site.host, (length,), "POST")):
        response = site.ask(data)
        yield Outcome.of(response, f"{response.header('Vary') or 'no'} Vary")


def uploaded_script(row: dict[str, Any], site: Site, host: Host) -> Iterator[Outcome]:
    data = b"<script>alert(1)</script>"
    for name in ("page.html", "picture.svg"):
        head = (f"Content-Length: {len(data)}",)
        kept = site.ask(rawhttp.get(f"/keep/row-r37-{name}", site.host, head, "POST") + data)
        response = site.page(kept.body.decode())
        policy = response.header("Content-Security-Policy") or ""
        saved = response.header("Content-Disposition") == "attachment"
        safe = saved and policy.startswith("sandbox;") and "allow-scripts" not in policy
        answerer = response.header("X-Answered-By") or "apache"
        yield Outcome(response.status, answerer, "no script runs" if safe else "")
    host.check_output("find %s -name 'row-r37-*' -delete", site.settings["media_root"])


EVENTS: dict[str, Callable[[dict[str, Any], Site, Host], Iterator[Outcome]]] = {
    function.__name__: function
    for function in (
        received_unchanged,
        subprotocol,
        real_client,
        spoofed_client,
        listed_proxy,
        daphne_down,
        frame_with_handshake,
        request_smuggling,
        daphne_hangs_up,
        connection_names_headers,
        ports_closed,
        large_message,
        body_without_length,
        nothing_of_apaches_own,
        uploaded_script,
    )
}


def expected(row: dict[str, Any], site: Site, index: int) -> tuple[Any, str, str]:
    """Return what the row demands of request `index`: statuses, answerer, and what is seen."""
    if not site.is_seed:
        one = row.get("each", [row])[index if "each" in row else 0]
        one = row.get("balanced", {}).get(index, one) if site.balanced else one
        status = one.get("status", row.get("status"))
        return (
            TABLE["statuses"][status][site.is_probe] if isinstance(status, str) else status,
            one.get("answerer", row.get("answerer")),
            one.get("seen", row.get("seen", "")),
        )
    seeds = row["seed"] if isinstance(row["seed"], list) else [row["seed"]]
    one = seeds[index] if len(seeds) > 1 else seeds[0]
    return [one["status"]], one["answerer"], one.get("seen", "")


# What does not depend on the scheme, or asks on the host itself, is done once for a site.
ONCE = {"listed_proxy", "ports_closed", "idle_socket", "large_message", "uploaded_script"}


def applies(row: dict[str, Any], site: Site, sites: list[Site]) -> bool:
    """Tell whether a row is about a site; what the published rules give was measured with the probe."""
    needs = row.get("needs", [])
    if "tls" in needs and not site.tls:
        return False
    first = next(other for other in sites if other.name == site.name)
    if ("disruptive" in needs or row.get("test") in ONCE) and site is not first:
        return False
    if "probe" in row.get("needs", []) or any(other.is_seed for other in sites):
        return site.is_probe
    return row["path"] == "page" or bool(site.prefix)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row["id"], marks=[MARKS[need] for need in row.get("needs", [])])
        for row in ROWS
    ],
)
def test_row(
    row: dict[str, Any],
    sites: list[Site],
    host: Host,
    deployed: dict[str, Any],
    idle: IdleSocket | None,
) -> None:
    """A request is answered by whom the contract of routing names."""
    if deployed.get("loadbalancer") and "disruptive" in row.get("needs", []):
        pytest.skip("another host answers in the place of one that is disturbed: tests/web")
    wrong = []
    concerned = [site for site in sites if applies(row, site, sites)]
    if not concerned:
        pytest.skip("no site of this host is concerned")
    for site in concerned[:1] if "other host" in row.get("needs", []) else concerned:
        if row.get("test") == "idle_socket":
            assert idle is not None
            idle.join(idle.seconds + 30)
            outcomes: Iterator[Outcome] = iter([idle.outcome])
        elif "test" in row:
            outcomes = EVENTS[row["test"]](row, site, host)
        else:
            outcomes = requests_of(row, site)
        for index, got in enumerate(outcomes):
            statuses, answerer, seen = expected(row, site, index)
            if site.balanced and got.answerer == "balancer":
                got.answerer = "apache"  # either of the two refuses before the site is asked
            where = f"{site.scheme} {site.name}"
            print(f"{row['id']} {where} {index}: {got.status} {got.answerer} {got.seen}")
            if (got.status not in statuses, got.answerer, got.seen) != (False, answerer, seen):
                wrong.append(f"{where}, {index}: {got}, not {statuses} {answerer} {seen}")
    assert not wrong, "\n".join([row["event"], *wrong])


def test_time_out_is_more_than_two_ping_intervals(sites: list[Site], host: Host) -> None:
    """Apache waits for more than two pings before it gives up a WebSocket.

    R30, asked of what was rendered, since the inventory may say one thing and the host another.
    """
    for site in sites:
        if not site.prefix or site.is_seed:
            continue
        rendered = host.check_output(
            "grep -o 'timeout=[0-9]*' /etc/apache2/sites-available/%s.conf | head -1", site.name
        )
        unit = host.check_output("systemctl cat daphne-%s@1.service", site.name)
        interval = int(unit.split("--ping-interval", 1)[1].split()[0].strip("=\"'"))
        assert int(rendered.split("=")[1]) > 2 * interval, f"{site.name}: {rendered}, {interval}"


@pytest.mark.probe
@pytest.mark.disruptive
def test_pages_are_served_while_many_sockets_are_open(probe: Site) -> None:
    """Pages are served while many WebSockets are open.

    Debian's own settings hold 149 sockets; with the next one every page hangs.
    """
    connections = []
    try:
        for _ in range(SOCKETS):
            connection, response = probe.open(probe.under("echo"))
            connections.append(connection)
            assert response.status == 101, f"socket {len(connections)}: {response}"
        times = sorted(probe.page("/").seconds for _ in range(20))
        print(
            f"{SOCKETS} sockets open, 20 pages: median {times[10]:.3f} s, worst {times[-1]:.3f} s"
        )
        assert times[-1] < PAGE_SECONDS
        for connection in (connections[0], connections[-1]):
            connection.send_frame(b"alive")
            assert connection.message() == b"alive"
    finally:
        for connection in connections:
            connection.close()
