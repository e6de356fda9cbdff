"""What web hosts that serve the same sites, and the balancers before them, must know of one another."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

FALLBACKS = "_FALLBACKS"  # the end of the name of the variable with a site's earlier keys
ADDRESS = "switchboard_address"
TLS = "switchboard_balanced_tls"
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")  # that a certificate can have
Groups = Mapping[str, Sequence[str]]


def _sites(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    sites = variables.get("sites")
    return sites if isinstance(sites, Mapping) else {}


def _hosts_of(groups: Groups, hostvars: Mapping[str, Any], site: str) -> list[str]:
    """Return the web hosts with a private address that have a site."""
    return [
        name
        for name in groups.get("web", [])
        if hostvars[name].get(ADDRESS) and site in _sites(hostvars[name])
    ]


def _at(address: str, port: Any) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _server(groups: Groups, hostvars: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a web host as the loadbalancer role takes it."""
    own, tls = hostvars[name], balanced_tls(groups, hostvars, name)
    port = own.get("apache_https_port", 443) if tls else own.get("apache_http_port", 80)
    return {"name": name, "address": _at(own[ADDRESS], port), "tls": tls}


def balanced_tls(groups: Groups, hostvars: Mapping[str, Any], host: str) -> bool:
    """Say whether this is a web host that balancers ask by TLS, as they do where the inventory says so.

    Raises:
        TypeError: ``switchboard_balanced_tls`` is neither true nor false.
    """
    behind = groups.get("loadbalancer") and host in groups.get("web", [])
    own = hostvars[host]
    return bool(behind and own.get(ADDRESS)) and boolean(own.get(TLS, False))


def web_cluster(groups: Groups, hostvars: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return what one host is told of the others that serve its sites.

    Web hosts with a private address (``switchboard_address``) that have a site of the same name serve it together.

    Returns:
        ``balancers``, the hosts of the group loadbalancer; ``behind``, whether this is a web host behind them; ``tls``,
        whether they ask it by TLS; ``proxies``, their private addresses; ``servers``, the web hosts of each site as the
        loadbalancer role takes them; ``peers``, the web hosts of each site that has several; ``key_hosts``, where to
        look for a site's secret key; ``later``, the sites of which this host is not the first; ``acme``, where the
        balancers' certbots answer challenges, and ``listen``, where this host's does.
    """
    own = hostvars[host]
    balancers = list(groups.get("loadbalancer", []))
    hosts = {str(site): _hosts_of(groups, hostvars, site) for site in _sites(own)}
    acme = {
        name: _at(
            hostvars[name].get(ADDRESS, "") if len(balancers) > 1 else "127.0.0.1",
            hostvars[name].get("loadbalancer_acme_port", 8402),
        )
        for name in balancers
    }
    return {
        "balancers": balancers,
        "behind": bool(balancers and host in groups.get("web", []) and own.get(ADDRESS)),
        "tls": balanced_tls(groups, hostvars, host),
        "proxies": [hostvars[name].get(ADDRESS, "") for name in balancers],
        "servers": {
            site: [_server(groups, hostvars, name) for name in names]
            for site, names in hosts.items()
        },
        "peers": {site: names for site, names in hosts.items() if len(names) > 1},
        # Where a site's key may be: with the first of its hosts, or with the second, should the first be new.
        "key_hosts": [
            {"site": site, "host": name}
            for site, names in hosts.items()
            for name in names[:2]
            if len(names) > 1
        ],
        "later": [site for site, names in hosts.items() if host in names[1:]],
        "acme": list(acme.values()),
        "listen": acme.get(host, ""),
    }


def shared_keys(
    sites: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], host: str
) -> list[dict[str, Any]]:
    """Give each site without a secret key of the inventory's the one that another of its hosts has.

    Args:
        sites: as the django role takes them.
        found: the results of ``slurp`` for each of ``key_hosts`` of `web_cluster`; what has no ``content`` was not
            there.
        host: this host, which keeps its own where it is asked first.
    """
    keys: dict[str, str] = {}
    for result in found:
        site, text = result["item"]["site"], base64.b64decode(result.get("content", "")).decode()
        lines = [line.partition("=") for line in text.splitlines() if not line.startswith("#")]
        values = [value for name, _, value in lines if name and not name.endswith(FALLBACKS)]
        if value := "".join(word for value in values for word in shlex.split(value)):
            keys.setdefault(site, "" if result["item"]["host"] == host else value)
    return [
        {**site, **({"secret_key": keys[site["name"]]} if keys.get(site["name"]) else {})}
        if not site.get("secret_key")
        else dict(site)
        for site in sites
    ]


def web_serial(groups: Groups, hostvars: Mapping[str, Any]) -> int | str:
    """Return how many web hosts are changed at a time: one where any two serve a site together, else all."""
    # ansible-playbook --syntax-check knows no variables of hosts
    names = [name for name in groups.get("web", []) if hostvars.get(name, {}).get(ADDRESS)]
    shared = any(
        len(_hosts_of(groups, hostvars, site)) > 1
        for name in names
        for site in _sites(hostvars[name])
    )
    return 1 if shared else "100%"


def web_together(groups: Groups, hostvars: Mapping[str, Any]) -> list[str]:
    """Return the web hosts, where any two of them serve a site together, else none."""
    return list(groups["web"]) if web_serial(groups, hostvars) == 1 else []


def web_waiting(groups: Groups, hostvars: Mapping[str, Any]) -> list[str]:
    """Return the web hosts on which an earlier play of the run has built a release that waits for its switch."""
    return [
        name
        for name in groups.get("web", [])
        if any(
            result.get("waits")
            for result in hostvars.get(name, {}).get("__django_releases", {}).get("results", [])
        )
    ]


def web_cluster_faults(groups: Groups, hostvars: Mapping[str, Any], host: str) -> list[str]:
    """Return what keeps a host from serving its sites together with others, a sentence each."""
    own, found = hostvars[host], list[str]()
    balancers = groups.get("loadbalancer", [])
    tiers = [tier for tier in ("loadbalancer", "web") if host in groups.get(tier, [])]
    if balancers and tiers and not own.get(ADDRESS):
        found.append(
            f"{ADDRESS} is not set: this host is in the group {tiers[0]}, and balancer and web hosts reach each other "
            f"by their private addresses. Set {ADDRESS} of {host}."
        )
        return found
    found += _tls_faults(groups, hostvars, host)
    for site, entry in _sites(own).items():
        names = _hosts_of(groups, hostvars, site)
        if host in balancers and not names:
            found.append(
                f"sites.{site} is to be balanced: no host of the group web with a {ADDRESS} has it. "
                "Add one in hosts.yml."
            )
        if isinstance(entry, Mapping) and entry.get("tls") == "forwarded":
            if balancers:
                found.append(
                    f"sites.{site}.tls is forwarded: the hosts of the group loadbalancer take TLS off by themselves. "
                    "Write acme, ca or files."
                )
            elif host in groups.get("web", []) and not own.get("apache_trusted_proxies"):
                found.append(
                    f"sites.{site}.tls is forwarded: nobody is believed to have taken TLS off. List the addresses of "
                    "your balancer in apache_trusted_proxies."
                )
        if len(names) > 1 and host in names and isinstance(entry, Mapping):
            found += _local_faults(str(site), entry, names)
    return found


def _tls_faults(groups: Groups, hostvars: Mapping[str, Any], host: str) -> list[str]:
    """Return why balancers could not know a web host by its certificate, a sentence each."""
    own = hostvars[host]
    try:
        if not balanced_tls(groups, hostvars, host):
            return []
    except TypeError:
        return [f"{TLS} is {own[TLS]!r}: it is neither true nor false. Write one of them."]
    found, without = [], f"or set {TLS} to false."
    if not NAME.fullmatch(host):
        found.append(
            f"{TLS} is true: balancers know a web host by the inventory's name, and no certificate can have {host}. "
            f"Use letters, digits, dots and hyphens in hosts.yml, {without}"
        )
    wanted, given = {host, str(own[ADDRESS])}, own.get("certificates_peers")
    named = [set(peer.get("names", [])) for peer in given or [] if peer.get("name") == "apache"]
    if given is not None and not any(wanted <= names for names in named):
        found.append(
            f"certificates_peers is set in the inventory: it has none for Apache, by which balancers know {host}. "
            f"Add {{name: apache, group: root, names: [{own[ADDRESS]}, {host}]}}, {without}"
        )
    if boolean(own.get("certificates_ca_replace", False)):
        found.append(
            f"certificates_ca_replace is true: balancers would take {host} for a stranger until they know the new CA. "
            f"Add -e {TLS}=false to this run, and run site.yml once more without both."
        )
    return found


def _local_faults(site: str, entry: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return what of a site each of its hosts would have for itself, a sentence each."""
    found, where = [], ", ".join(names)
    told = {**(entry.get("environment") or {}), **(entry.get("secrets") or {})}
    if (entry.get("database") or "sqlite") == "sqlite" and not told.get("DATABASE_URL"):
        found.append(
            f"sites.{site}.database is sqlite: {where} serve the site together, and each would have rows of its own. "
            "Write `database: postgresql` (docs/database.md), or `database: none` for a site that keeps nothing."
        )
    valkey = entry.get("valkey")
    local = isinstance(valkey, Mapping) and valkey.get("local")
    if valkey and not local:
        found.append(
            f"sites.{site}.valkey is on: {where} serve the site together, and what one host puts into its Valkey the "
            "others don't see. Name a server that all of them reach in `environment`, or write `valkey: {local: true}` "
            "for a cache or a queue that may differ."
        )
    return found


def balanced_sites(
    lists: Mapping[str, Sequence[Mapping[str, Any]]], address: str, http: Any, https: Any
) -> list[dict[str, Any]]:
    """Return where monitoring on a balancer asks it for each site.

    Args:
        lists: what `site_lists` returns, of which ``monitoring`` says for which path and name.
        address: what HAProxy listens on, empty for every address.
        http: its port without TLS.
        https: its port with TLS.
    """
    return [
        {
            "name": site["name"],
            "url": f"https://{_at(address or '127.0.0.1', https)}"
            if site["tls"]
            else f"http://{_at(address or '127.0.0.1', http)}",
            "host": watched["host"],
            "path": watched.get("path", "/"),
        }
        for site, watched in zip(lists["loadbalancer"], lists["monitoring"], strict=True)
    ]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "balanced_sites": balanced_sites,
            "balanced_tls": balanced_tls,
            "shared_keys": shared_keys,
            "web_cluster": web_cluster,
            "web_cluster_faults": web_cluster_faults,
            "web_serial": web_serial,
            "web_together": web_together,
            "web_waiting": web_waiting,
        }
