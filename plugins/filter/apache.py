"""Filters of the apache role: the size of the event MPM, the rules of preflight, path patterns."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

# KiB that one open WebSocket takes: in an Apache child with 512 threads, in Daphne, in the kernel.
# Measured with 1,000 idle sockets; the three together are what a socket costs the host.
SOCKET_KIB = {"apache": 80, "daphne": 31, "kernel": 25}
# MiB that a child of Apache takes before its first socket.
CHILD_MIB = 10
# MiB that one takes, beside its sockets, which a reload has left behind: its other threads are gone.
OLD_CHILD_MIB = 2
# AsyncRequestWorkerFactor of the event MPM: idle keep-alive connections for each thread of a child.
ASYNC_FACTOR = 2
# What Debian's apachectl sets with `ulimit -n`; the role never goes below it.
LEAST_OPEN_FILES = 8192
# Room for rotatelogs, of which each site and generation of children has some, and for processes that are about to end.
SPARE_TASKS = 1024
# The limits that Apache compiles in for ServerLimit and for ThreadLimit in Debian's build.
GREATEST_SERVER_LIMIT = 20000
GREATEST_THREAD_LIMIT = 20000

# A request in the access log: mod_log_config's word for each member. Those that begin with switchboard_ are
# variables of switchboard.conf.j2.
LOG_FIELDS = {
    "time": "%{%Y-%m-%dT%H:%M:%S}t.%{msec_frac}t%{%z}t",
    "request_id": "%{UNIQUE_ID}e",
    "client": "%a",
    "site": "%v",
    "host": "%{switchboard_host}e",
    "method": "%{switchboard_method}e",
    "path": "%{switchboard_path}e",
    "protocol": "%{switchboard_protocol}e",
    "upgrade": "%{switchboard_upgrade}e",
    "status": "%>s",
    "answerer": "%{switchboard_answerer}n",
    "bytes_in": "%I",
    "bytes_out": "%O",
    "microseconds": "%D",
    "referer": "%{switchboard_referer}e",
    "agent": "%{switchboard_agent}e",
}

WEBSOCKET_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+/)+")
HOST_NAME = re.compile(r"(?=.{1,253}$)(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")
BACKEND = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
PLAIN_PATH = re.compile(r"/[A-Za-z0-9._~/@+-]*")
# What the sandbox of Apache's unit hides (ProtectHome, PrivateTmp).
HIDDEN_PATH = re.compile(r"/(home|root|run/user|tmp|var/tmp)(/.*)?")
# Within double quotes of Apache's configuration: printable ASCII, no quotation mark, backslash or variable.
MESSAGE = r"(?:(?!\$\{)[ !#-\[\]-~])*"
HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
PLAIN_WORD = re.compile(r"[A-Za-z0-9_.@-]+")


def apache_mpm(
    threads_per_child: int,
    max_websockets: int,
    max_http_workers: int,
    old_generations: int = 0,
    wsgi_threads: int = 0,
    http2_workers: int = 0,
) -> dict[str, int]:
    """Size the event MPM for so many open WebSockets and page requests at the same time.

    Apache 2.4 keeps one worker thread for each proxied WebSocket as long as it is open, so
    MaxRequestWorkers is their sum, rounded up to whole children. ``wsgi_threads`` is the number of
    threads in all WSGI daemons of the host, which live in the same systemd unit;
    ``http2_workers`` is the most of mod_http2's threads in each child, beside the MPM's.

    Returns the directives, each in its own unit (threads, processes, files),
    ``tasks`` (for TasksMax) and ``memory_mib`` (all sockets open).

    Sources: Apache's documentation of mpm_common and event (ServerLimit, ThreadLimit,
    ThreadsPerChild, MaxRequestWorkers, AsyncRequestWorkerFactor).
    """
    threads = max(1, int(threads_per_child))
    sockets = max(0, int(max_websockets))
    pages = max(1, int(max_http_workers))
    children = max(1, math.ceil((sockets + pages) / threads))
    server_limit = children * (1 + max(0, int(old_generations)))
    # A reload counts anew, and the children of before hold what they have: all of it twice at the most that is likely,
    # for who has a socket asks for no other.
    for_sockets = (2 if old_generations else 1) * sockets * sum(SOCKET_KIB.values()) / 1024
    for_pages = pages * SOCKET_KIB["apache"] / 1024
    return {
        "threads_per_child": threads,
        # below Apache's own default of 64 nothing is gained
        "thread_limit": max(64, threads),
        "children": children,
        "server_limit": server_limit,
        "max_request_workers": children * threads,
        "min_spare_threads": min(threads, children * threads),
        # a child that is ended for being spare waits for its sockets and serves nobody meanwhile
        "max_spare_threads": children * threads,
        # for each thread the browser's connection and the backend's, then idle ones, then logs
        "open_files": max(LEAST_OPEN_FILES, threads * (2 + ASYNC_FACTOR) + 256),
        # a child has a listener and a main thread beside its workers
        "tasks": server_limit * (threads + int(http2_workers) + 3)
        + int(wsgi_threads)
        + SPARE_TASKS,
        "memory_mib": math.ceil(
            for_sockets
            + for_pages
            + children * CHILD_MIB
            + (server_limit - children) * OLD_CHILD_MIB
        ),
    }


def apache_path_pattern(paths: Sequence[str]) -> str:
    """Return a regular expression (PCRE, without anchor) that matches each of ``paths``."""
    alternatives = [re.escape(path).replace(r"\-", "-").replace(r"\~", "~") for path in paths]
    return alternatives[0] if len(alternatives) == 1 else f"(?:{'|'.join(alternatives)})"


def apache_log(site: str, name: str) -> str:
    """Return the command that writes a log of a site, a new file each day, for ErrorLog or CustomLog.

    ``name`` (``access.json``) is a second name of today's file, ``access-20261124.json``. A log that is
    piped needs no reload to be rotated.
    """
    folder = f"/var/log/apache2/{site}"
    stem, dot, suffix = name.partition(".")
    daily = f"{folder}/{stem}-%Y%m%d{dot}{suffix}"
    return f"|/usr/bin/rotatelogs -l -L {folder}/{name} {daily} 86400"


def apache_log_format(nickname: str) -> str:
    """Return the directive LogFormat for a line of JSON with `LOG_FIELDS`."""
    numbers = {"status", "bytes_in", "bytes_out", "microseconds"}
    members = [
        f'\\"{key}\\":{value}' if key in numbers else f'\\"{key}\\":\\"{value}\\"'
        for key, value in LOG_FIELDS.items()
    ]
    return f'LogFormat "{{{",".join(members)}}}" {nickname}'


def apache_websocket_sources(value: str, site: Mapping[str, Any], scheme: str, port: int) -> str:
    """Put a site's own WebSocket origins for ``{websockets}`` in a header (CSP's connect-src)."""
    suffix = "" if int(port) == (443 if scheme == "wss" else 80) else f":{port}"
    names = [site["server_name"], *site["server_aliases"]] if site["websocket_paths"] else []
    return value.replace("{websockets}", " ".join(f"{scheme}://{n}{suffix}" for n in names))


def apache_prefixes(networks: Sequence[str]) -> list[str]:
    """Return addresses and networks as mod_qos takes them: an address, or the beginning of some (``10.1.``).

    A network that ends within a number becomes the networks of the next whole one, 256 at most.
    """
    prefixes = []
    for text in networks:
        network = ipaddress.ip_network(text, strict=False)
        step = 8 if network.version == 4 else 16
        bits = math.ceil(network.prefixlen / step) * step
        for part in network.subnets(new_prefix=bits):
            whole = part.network_address
            if bits == part.max_prefixlen:
                prefixes.append(str(whole))
            elif network.version == 4:
                prefixes.append(".".join(str(whole).split(".")[: bits // step]) + ".")
            else:
                groups = [f"{int(group, 16):x}" for group in whole.exploded.split(":")]
                prefixes.append(":".join(groups[: bits // step]) + ":")
    return prefixes


def apache_from_proxy(proxies: Sequence[str]) -> str:
    """Return a condition (ap_expr) that holds for a connection from one of ``proxies``.

    It asks for the peer's own address, since mod_remoteip has replaced REMOTE_ADDR.
    """
    return " || ".join(f"%{{CONN_REMOTE_ADDR}} -ipmatch '{proxy}'" for proxy in proxies)


def apache_rules(
    sites: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what can't work on this host, as rules that do not hold; empty when all is well.

    ``sites`` are the complete sites, ``settings`` the role-wide variables with their names,
    ``facts`` Ansible's facts of the host. Each rule has ``variable``, ``value``, ``why`` and ``remedy``.
    """
    return [
        {"variable": variable, "value": value, "why": why, "remedy": remedy}
        for variable, value, why, remedy in (
            *_broken_host(settings, facts),
            *_broken_memory(sites, settings, facts),
            *(broken for site in sites for broken in _broken_site(site)),
            *_broken_together(sites),
        )
    ]


Broken = tuple[str, Any, str, str]


def _broken_host(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Broken]:
    release = facts.get("distribution_major_version")
    if facts.get("distribution") != "Debian" or release not in ("12", "13"):
        yield (
            "ansible_distribution",
            f"{facts.get('distribution')} {facts.get('distribution_version')}",
            "the apache role is built for and tested on Debian 12 and 13 alone.",
            "Use a host with one of these.",
        )
    ranges = {
        "apache_http_port": (1, 65535),
        "apache_https_port": (1, 65535),
        "apache_max_connections_per_address": (1, 1000000),
        "apache_max_websockets_per_address": (1, 1000000),
        "apache_limit_request_line": (512, 1048576),
        "apache_limit_request_field_size": (512, 1048576),
        "apache_limit_request_fields": (16, 32767),
        "apache_status_port": (0, 65535),
        "apache_log_days": (1, 36500),
        "apache_max_http_workers": (1, 100000),
        "apache_threads_per_child": (1, GREATEST_THREAD_LIMIT),
        "apache_old_generations": (0, 100),
        "apache_memory_percent": (1, 100),
    }
    for variable, (least, most) in ranges.items():
        if not least <= int(settings[variable]) <= most:
            yield (
                variable,
                settings[variable],
                f"it must be a number from {least} to {most}.",
                "Choose one.",
            )
    address = settings["apache_listen_address"]
    if address and not _is_address(address):
        yield (
            "apache_listen_address",
            address,
            "it is no IP address.",
            "Write one of the host's addresses, or leave it empty for all of them.",
        )
    for proxy in settings["apache_trusted_proxies"]:
        if not _is_network(proxy):
            yield (
                "apache_trusted_proxies",
                proxy,
                "it is neither an IP address nor a network.",
                "Write 10.0.0.5 or 10.0.0.0/24.",
            )

    if settings["apache_http2_stream_timeout"] < 1:
        yield (
            "apache_http2_stream_timeout",
            settings["apache_http2_stream_timeout"],
            "a stream must have time to send.",
            "Write a number of seconds, such as 10.",
        )
    time_out = settings["apache_request_read_timeout"]
    stage = r"(?:handshake|header|body)=[0-9]+(?:-[0-9]+)?(?:,[Mm]in[Rr]ate=[0-9]+)?"
    if not re.fullmatch(rf"{stage}(?: {stage})*", time_out):
        yield (
            "apache_request_read_timeout",
            time_out,
            "it is nothing that RequestReadTimeout takes.",
            "Write header=5-20,MinRate=500 body=10,MinRate=500.",
        )
    for status, text in settings["apache_error_messages"].items():
        if not re.fullmatch("[45][0-9][0-9]", str(status)) or not re.fullmatch(MESSAGE, str(text)):
            yield (
                "apache_error_messages",
                f"{status}: {text}",
                "it is no status from 400 to 599 with a text in ASCII without quotation marks.",
                "Write 503: Please come back later. HTML and entities such as &uuml; may stand in it.",
            )


def _total_websockets(sites: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(site["max_websockets"]) for site in sites if site["websocket_paths"])


def _broken_memory(
    sites: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[Broken]:
    settings = {**settings, "apache_max_websockets": _total_websockets(sites)}
    size = _sized(settings)
    if size["server_limit"] > GREATEST_SERVER_LIMIT:
        yield (
            "apache_threads_per_child",
            settings["apache_threads_per_child"],
            f"{settings['apache_max_websockets']} WebSockets need a ServerLimit of "
            f"{size['server_limit']}, Apache's most is {GREATEST_SERVER_LIMIT}.",
            "Raise it, or lower apache_max_websockets or apache_old_generations.",
        )
    total = int(facts.get("memtotal_mb", 0))
    budget = total * int(settings["apache_memory_percent"]) // 100
    if size["memory_mib"] > budget:
        spare = budget - _needs_mib(settings, 0)
        fitting = max(0, spare * 1024 // (sum(SOCKET_KIB.values()) + 1))
        while (
            fitting
            and _sized({**settings, "apache_max_websockets": fitting})["memory_mib"] > budget
        ):
            fitting -= max(1, fitting // 50)
        yield (
            "apache_max_websockets",
            settings["apache_max_websockets"],
            f"so many WebSockets beside {settings['apache_max_http_workers']} page requests need "
            f"{size['memory_mib']} MiB, and {settings['apache_memory_percent']} % of this host's "
            f"{total} MiB are {budget} MiB.",
            f"Set it to at most {fitting}, or raise apache_memory_percent, or give the host more.",
        )


def _sized(settings: Mapping[str, Any]) -> dict[str, int]:
    names = ("threads_per_child", "max_websockets", "max_http_workers", "old_generations")
    return apache_mpm(**{name: settings[f"apache_{name}"] for name in names})


def _needs_mib(settings: Mapping[str, Any], websockets: int) -> int:
    return _sized({**settings, "apache_max_websockets": websockets})["memory_mib"]


def _broken_site(site: Mapping[str, Any]) -> Iterator[Broken]:
    def named(key: str) -> str:
        return f"apache_{key} of site {site['name']}"

    if not site["server_name"]:
        yield (
            named("server_name"),
            "empty",
            "Apache can't tell which requests are for the site.",
            "Write the name that stands in the browser's address line, such as lab.example.org.",
        )
    for key, names in (
        ("server_name", [site["server_name"]] if site["server_name"] else []),
        ("server_aliases", site["server_aliases"]),
    ):
        for name in names:
            if not HOST_NAME.fullmatch(name) and not _is_address(name.strip("[]")):
                yield (
                    named(key),
                    name,
                    "it is neither a host name nor an IP address.",
                    "Write it without scheme, port and path.",
                )
    yield from _broken_websockets(site, named)
    yield from _broken_paths(site, named)
    for key in ("wsgi_user", "wsgi_group"):
        if not PLAIN_WORD.fullmatch(site[key]):
            yield named(key), site[key], "it is no name of an account.", "Write one."
    if not re.fullmatch(r"0?[0-7]{3}", site["wsgi_umask"]):
        yield (
            named("wsgi_umask"),
            site["wsgi_umask"],
            "it is no umask in octal.",
            'Write it as text, such as "0027".',
        )
    for key in (
        "wsgi_processes",
        "wsgi_threads",
        "websocket_connect_timeout",
        "websocket_ping_interval",
    ):
        if site[key] < 1:
            yield named(key), site[key], "it must be at least 1.", "Choose a greater one."
    for key in ("queue", "request", "deadlock", "graceful", "shutdown"):
        if site[f"wsgi_{key}_timeout"] < 1:
            yield (
                named(f"wsgi_{key}_timeout"),
                site[f"wsgi_{key}_timeout"],
                "a time-out of less than 1 second means none to mod_wsgi.",
                "Choose a greater one.",
            )
    if site["limit_request_body"] < 1:
        yield (
            named("limit_request_body"),
            site["limit_request_body"],
            "0 means no limit to Apache, and less than that nothing.",
            "Write a number of bytes, such as 26214400.",
        )
    if site["tls"] and site["hsts_max_age"] < 0:
        yield (
            named("hsts_max_age"),
            site["hsts_max_age"],
            "there is no such time.",
            "Write a number of seconds, or 0 for no header.",
        )
    yield from _broken_answers(site, named)
    yield from _broken_headers(site, named)
    yield from _broken_files(site, named)


def _broken_files(site: Mapping[str, Any], named: Callable[[str], str]) -> Iterator[Broken]:
    """Judge the files that Apache answers itself."""
    for key, example in (("static_url", "/static/"), ("media_url", "/media/")):
        url = site[key]
        if url and (not PLAIN_PATH.fullmatch(url) or not url.endswith("/") or url == "/"):
            yield (
                named(key),
                url,
                "it is no path that begins and ends with a slash and has something between them.",
                f"Write {example}, or leave it empty.",
            )
    url, root = site["media_url"], site["media_root"].rstrip("/") + "/"
    if not url:
        return
    if site["static_url"] and (
        url.startswith(site["static_url"]) or site["static_url"].startswith(url)
    ):
        yield (
            named("media_url"),
            url,
            f"it overlaps with static_url, {site['static_url']}.",
            "Keep the two apart.",
        )
    private = [site["wsgi_script"], site["wsgi_home"], *site["wsgi_write_paths"]]
    shown = [path for path in private if f"{path.rstrip('/')}/".startswith(root)]
    if shown:
        yield (
            named("media_root"),
            site["media_root"],
            f"{shown[0]} lies in it, and everybody could read that.",
            "Name a folder of its own, such as /srv/{site}/data/media.",
        )


def _broken_paths(site: Mapping[str, Any], named: Callable[[str], str]) -> Iterator[Broken]:
    keys = [
        "wsgi_script",
        "wsgi_python_home",
        "wsgi_home",
        "static_root",
        "media_root",
        "maintenance_dir",
    ]
    if site["tls"]:
        keys += ["tls_certificate", "tls_key", "acme_webroot"]
    paths = [(key, site[key]) for key in keys]
    for key, path in paths + [("wsgi_write_paths", path) for path in site["wsgi_write_paths"]]:
        if not PLAIN_PATH.fullmatch(path):
            yield (
                named(key),
                path,
                "it is no absolute path of letters, digits and ._~/@+-",
                "Write the whole path.",
            )
        elif HIDDEN_PATH.fullmatch(path):
            yield (
                named(key),
                path,
                "Apache's unit does not see /home, /root, /run/user, /tmp and /var/tmp.",
                "Choose a folder below /srv, /var/lib or /opt.",
            )


def _broken_headers(site: Mapping[str, Any], named: Callable[[str], str]) -> Iterator[Broken]:
    for name in site["headers_dropped"]:
        if not HEADER_NAME.fullmatch(name):
            yield named("headers_dropped"), name, "it is no header.", "Write X-Forwarded-Host."
        elif name.lower() in ("x-forwarded-for", "x-forwarded-proto", "x-request-id", "host"):
            yield (
                named("headers_dropped"),
                name,
                "Apache sets it itself, whatever a client sent.",
                "Take it out of the list.",
            )


def _broken_answers(site: Mapping[str, Any], named: Callable[[str], str]) -> Iterator[Broken]:
    for path in site["maintenance_exempt"]:
        if not PLAIN_PATH.fullmatch(path):
            yield named("maintenance_exempt"), path, "it is no path.", "Write /healthz."
    if site["retry_after"] < 1:
        yield named("retry_after"), site["retry_after"], "it must be at least 1.", "Write 30."
    if not _is_pattern(site["static_hashed"]):
        yield (
            named("static_hashed"),
            site["static_hashed"],
            "it is no regular expression that Apache takes.",
            r"Write \.[0-9a-f]{12}\.[a-z0-9]+$, or leave it empty.",
        )
    for name, value in site["security_headers"].items():
        if not HEADER_NAME.fullmatch(str(name)) or not re.fullmatch(MESSAGE, str(value)):
            yield (
                named("security_headers"),
                f"{name}: {value}",
                "it is no header with a value in ASCII without double quotes.",
                "Write Referrer-Policy: same-origin.",
            )


def _broken_websockets(site: Mapping[str, Any], named: Callable[[str], str]) -> Iterator[Broken]:
    for path in site["websocket_paths"]:
        if not WEBSOCKET_PATH.fullmatch(path):
            yield (
                named("websocket_paths"),
                path,
                "it is no path that begins and ends with a slash and has something between them.",
                "Write /ws/: all below it is handed to Daphne.",
            )
        for key in ("static_url", "media_url"):
            url = site[key]
            if url and (url.startswith(path) or path.startswith(url)):
                yield (
                    named("websocket_paths"),
                    path,
                    f"it overlaps with {key}, {url}.",
                    "Keep the two apart.",
                )
    if not site["websocket_paths"]:
        return
    if not 1 <= site["max_websockets"] <= 1000000:
        yield (
            named("max_websockets"),
            site["max_websockets"],
            "it must be a number from 1 to 1000000.",
            "Choose one.",
        )
    for origin in site["websocket_origins"]:
        if not ORIGIN.fullmatch(origin):
            yield (
                named("websocket_origins"),
                origin,
                "it is no origin (RFC 6454: scheme, host and port, nothing behind them).",
                "Write https://example.org, or https://example.org:8443.",
            )
    backend = BACKEND.fullmatch(site["websocket_backend"])
    if not backend or not 1 <= int(backend.group(1)) <= 65535:
        yield (
            named("websocket_backend"),
            site["websocket_backend"],
            "it is no address with a port from 1 to 65535.",
            "Write 127.0.0.1:9099.",
        )
    interval = site["websocket_ping_interval"]
    if site["websocket_timeout"] <= 2 * interval:
        yield (
            named("websocket_timeout"),
            site["websocket_timeout"],
            f"with a ping each {interval} s an idle WebSocket would be closed after one lost ping.",
            f"Set it to more than {2 * interval}, twice its websocket_ping_interval.",
        )


def _broken_together(sites: Sequence[Mapping[str, Any]]) -> Iterator[Broken]:
    secure = [site["name"] for site in sites if site["tls"]]
    if secure and any(
        site["websocket_mode"] == "seed" and site["websocket_paths"] for site in sites
    ):
        yield (
            f"apache_tls of site {secure[0]}",
            "true",
            "the published rules (mode seed) are for plain HTTP, and come without mod_headers.",
            "Switch it off, or use mode rewrite.",
        )
    owners: dict[str, str] = {}
    for site in sites:
        for name in (site["server_name"], *site["server_aliases"]):
            key = name.lower()
            if key and owners.setdefault(key, site["name"]) != site["name"]:
                yield (
                    f"apache_server_name or apache_server_aliases of site {site['name']}",
                    name,
                    f"site {owners[key]} has that name already.",
                    "Give each site names of its own.",
                )
    modes = {site["websocket_mode"] for site in sites if site["websocket_paths"]}
    if len(modes) > 1:
        seeds = [s["name"] for s in sites if s["websocket_paths"] and s["websocket_mode"] == "seed"]
        yield (
            f"apache_websocket_mode of site {seeds[0]}",
            "seed",
            "another site of this host is in mode rewrite, which needs mod_proxy_http; "
            "the published rules are without it, and Apache's modules are the host's.",
            "Set one mode for all sites of the host.",
        )


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return re.fullmatch(r"(?:(?!\$\{)[!$-~])*", text) is not None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def apache_folders(
    sites: Sequence[Mapping[str, Any]], log_dirs: Sequence[str], bodies_dir: str
) -> list[dict[str, str]]:
    """Return the folders that Apache and its sites need, as the module host_files takes them.

    Apache reads what a site uploads, whatever the site's umask: folders below have the same group (set-group-ID).
    """
    folders = [{"path": path, "group": "adm", "mode": "0750"} for path in log_dirs]
    folders += [{"path": path} for path in dict.fromkeys(site["maintenance_dir"] for site in sites)]
    folders.append({"path": bodies_dir, "owner": "www-data", "group": "www-data", "mode": "0700"})
    folders += [
        {
            "path": site["media_root"],
            "owner": site["wsgi_user"],
            "group": "www-data",
            "mode": "2750",
        }
        for site in sites
        if site["media_url"]
    ]
    return [folder | {"state": "directory"} for folder in folders]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "apache_from_proxy": apache_from_proxy,
            "apache_log": apache_log,
            "apache_log_format": apache_log_format,
            "apache_mpm": apache_mpm,
            "apache_path_pattern": apache_path_pattern,
            "apache_prefixes": apache_prefixes,
            "apache_rules": apache_rules,
            "apache_folders": apache_folders,
            "apache_websocket_sources": apache_websocket_sources,
        }
