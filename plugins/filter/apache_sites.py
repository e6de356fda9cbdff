"""What a site of Apache must not say: names, paths, headers and limits that its configuration cannot have."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

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

Broken = tuple[str, Any, str, str]


def apache_site_rules(
    sites: Sequence[Mapping[str, Any]], messages: Mapping[Any, Any]
) -> list[dict[str, Any]]:
    """Return what the complete sites and apache_error_messages say that Apache can't have, as rules that do not hold.

    Each rule has ``variable``, ``value``, ``why`` and ``remedy``; without any, all is well.
    """
    return [
        {"variable": variable, "value": value, "why": why, "remedy": remedy}
        for variable, value, why, remedy in (
            *_broken_messages(messages),
            *(broken for site in sites for broken in _broken_site(site)),
            *_broken_together(sites),
        )
    ]


def _broken_messages(messages: Mapping[Any, Any]) -> Iterator[Broken]:
    for status, text in messages.items():
        if not re.fullmatch("[45][0-9][0-9]", str(status)) or not re.fullmatch(MESSAGE, str(text)):
            yield (
                "apache_error_messages",
                f"{status}: {text}",
                "it is no status from 400 to 599 with a text in ASCII without quotation marks.",
                "Write 503: Please come back later. HTML and entities such as &uuml; may stand in it.",
            )


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
    if site["server_name"].startswith("*."):
        yield (
            named("server_name"),
            site["server_name"],
            "ServerName can be no wildcard.",
            "Write the name that visitors type, and the wildcard into server_aliases.",
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
    yield from _lost_names(sites)
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


def _lost_names(sites: Sequence[Mapping[str, Any]]) -> Iterator[Broken]:
    """Judge the names that a wildcard of an earlier site matches: Apache takes the first site that has any match."""
    wildcards: list[tuple[str, str]] = []
    for site in sorted(sites, key=lambda site: f"{site['name']}.conf"):  # as Include reads them
        names = [site["server_name"], *site["server_aliases"]]
        for name in names:
            for wildcard, owner in wildcards:
                if name.lower().endswith(wildcard[1:].lower()):
                    yield (
                        f"apache_server_aliases of site {owner}",
                        wildcard,
                        f"it matches {name} of site {site['name']}, whose visitors Apache would lead here, since it "
                        "goes through the sites in the order of their names.",
                        f"Write the names that {owner} has one by one, or name its site so that it is the later one.",
                    )
        wildcards += [(name, site["name"]) for name in names if name.startswith("*.")]


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


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"apache_site_rules": apache_site_rules}
