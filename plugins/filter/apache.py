"""Filters of the apache role: the size of the event MPM, the rules of preflight, path patterns."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

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
    """Put a site's own WebSocket origins for ``{websockets}`` in a header (CSP's connect-src).

    They are where visitors find the site: ``public_url``, or Apache's own ``scheme`` and ``port``.
    """
    if site.get("public_url"):
        public = urlsplit(site["public_url"])
        scheme = "wss" if public.scheme == "https" else "ws"
        port = public.port or (443 if scheme == "wss" else 80)
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

    ``sites`` are the complete sites, ``settings`` the role-wide variables with their names, ``facts`` Ansible's facts
    of the host. Each rule has ``variable``, ``value``, ``why`` and ``remedy``. What a site says of itself is looked at
    by apache_site_rules.
    """
    return [
        {"variable": variable, "value": value, "why": why, "remedy": remedy}
        for variable, value, why, remedy in (
            *_broken_host(settings, facts),
            *_broken_balanced(sites, settings),
            *_broken_memory(sites, settings, facts),
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
        "apache_old_generations": (1, 100),
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
    if address and ("/" in address or not _is_network(address)):
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

    if settings["apache_balanced"] and not settings["apache_trusted_proxies"]:
        yield (
            "apache_balanced",
            True,
            "apache_trusted_proxies names no balancer.",
            "Name them there, or set it to false.",
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


def _broken_balanced(
    sites: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> Iterator[Broken]:
    certificate, key = settings["apache_balanced_certificate"], settings["apache_balanced_key"]
    if bool(certificate) != bool(key):
        yield (
            "apache_balanced_key",
            key or "empty",
            "a certificate has a key.",
            "Set both, or apache_balanced_certificate alone to nothing.",
        )
    for site in sites if certificate else ():
        seed = site["websocket_mode"] == "seed" and site["websocket_paths"]
        if site["tls"] or seed:
            yield (
                "apache_balanced_certificate",
                certificate,
                f"site {site['name']} has "
                + ("the published rules, for plain HTTP." if seed else "a certificate of its own."),
                "Leave it empty (of site.yml: switchboard_balanced_tls: false), or change the site.",
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


def apache_wsgi_title(site: str) -> str:
    """Return the name of a site's processes as `wsgi_group.title` knows them, for mod_wsgi shows no longer one."""
    whole = f"(wsgi:{site})"
    if len(whole) <= len("/usr/sbin/apache2"):
        return whole
    mark = f"~{hashlib.sha256(site.encode()).hexdigest()[:4]})"
    return f"{whole[: len('/usr/sbin/apache2') - len(mark)]}{mark}"


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
            "apache_wsgi_title": apache_wsgi_title,
        }
