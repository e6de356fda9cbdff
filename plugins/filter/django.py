"""What the django role refuses before it changes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def django_rules(
    sites: Sequence[Mapping[str, Any]], wsgi_python: Mapping[str, str], facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the rules that the host and each site must keep.

    ``wsgi_python`` maps a Debian release to the Python its mod_wsgi is built for. A rule is a mapping
    with ``that`` (whether it is kept), ``site``, ``variable``, ``value``, ``why`` and ``mend``.
    """
    rules: list[dict[str, Any]] = []
    release = str(facts.get("distribution_major_version", ""))
    debian = facts.get("distribution") == "Debian" and release in wsgi_python
    rules.append(
        {
            "that": debian,
            "site": "host",
            "variable": "ansible_distribution",
            "value": f"{facts.get('distribution')} {facts.get('distribution_version')}",
            "why": "Switchboard is built for and tested on Debian 12 and 13 alone.",
            "mend": "Use a host with one of these.",
        }
    )

    def add(
        site: Mapping[str, Any], key: str, that: bool, why: str, mend: str, value: Any = None
    ) -> None:
        rules.append(
            {
                "that": that,
                "site": site["name"],
                "variable": f"django_{key}",
                "value": (site[key] if value is None else value) or "empty",
                "why": why,
                "mend": f"{mend} (site {site['name']})",
            }
        )

    version = facts.get("python", {}).get("version", {})
    installed = f"{version.get('major')}.{version.get('minor')}"
    wanted = wsgi_python.get(release, "")
    for site in sites:
        add(
            site,
            "settings_module",
            bool(site["settings_module"]),
            "a site needs one.",
            "Name it, as in lab.settings.",
        )
        add(
            site,
            "wsgi_module",
            bool(site["wsgi_module"]),
            "a site needs one.",
            "Name it, as in lab.wsgi.",
        )
        if site["python"] == "/usr/bin/python3":
            add(
                site,
                "python",
                not debian or installed == wanted,
                f"it is Python {installed}, and the mod_wsgi of Debian {release} is built for Python {wanted}.",
                f"Let /usr/bin/python3 be Debian's own Python {wanted} again.",
            )
        source = site["source"]
        if source == "directory":
            add(
                site,
                "directory",
                bool(site["directory"]),
                "source directory needs it.",
                "Name the project's folder.",
            )
        elif source == "git":
            add(
                site,
                "repository",
                bool(site["repository"]),
                "source git needs it.",
                "Name the repository's address.",
            )
        else:
            add(
                site,
                "archive",
                bool(site["archive"]),
                "source archive needs it.",
                "Name the archive's URL.",
            )
            digest = str(site["archive_sha256"])
            add(
                site,
                "archive_sha256",
                len(digest) == 64 and all(c in "0123456789abcdef" for c in digest),
                "source archive needs the 64 hexadecimal digits of its SHA-256.",
                "Take them from `sha256sum` of an archive that you trust.",
            )
    return rules


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {"django_rules": django_rules}
