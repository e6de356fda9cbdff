"""Read a site's environment files, and run a command of its project with them.

One file for three readers: the module that builds releases, the WSGI script that Apache loads, and
the command `switchboard-manage`, for which it is installed on each web host.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

# How a schema's name begins that keeps what a restore has replaced in the database of another host.
ASIDE = "switchboard_before_"


def parse(text: str) -> dict[str, str]:
    """Return the variables in the text of one environment file.

    It has the syntax of systemd.exec(5) EnvironmentFile, restricted to one variable a line with its
    value between double quotes, which is what the django role writes.
    """
    values: dict[str, str] = {}
    # not splitlines(), which also splits at U+2028 and the like inside a value
    for line in text.split("\n"):
        name, separator, value = line.partition("=")
        if separator and not line.startswith(("#", ";")):
            values[name.strip()] = "".join(shlex.split(value))
    return values


def read(folder: str | Path, instead: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of the ``*.env`` files of a folder, later files over earlier ones.

    ``instead`` maps names of files to texts that are taken in the place of what the folder holds.
    """
    texts = dict(instead or {})
    for path in Path(folder).iterdir():  # raises PermissionError where glob would be silent
        if path.suffix == ".env" and path.name not in texts:
            texts[path.name] = path.read_text(encoding="utf-8")
    values: dict[str, str] = {}
    for name in sorted(texts):
        values.update(parse(texts[name]))
    return values


def database_of(environment: Mapping[str, str]) -> str:
    """Return where an environment says that the rows are.

    ``postgresql`` by a socket of this host, ``postgresql at ADDRESS``, or ``sqlite`` for all else.
    """
    there = postgresql_of(environment)
    if there is None:
        return "sqlite"
    return f"postgresql at {there['PGHOST']}" if there else "postgresql"


def postgresql_of(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return how to get into the PostgreSQL that an environment names, as libpq's own variables.

    They are empty for a socket of this host, where who comes is known by its system user; None where there is none.
    """
    url = environment.get("DATABASE_URL", "")
    if not url.startswith(("postgres:", "postgresql:")):
        return None
    try:
        parts = urlsplit(url)
        address, port = parts.hostname, parts.port
    except ValueError:  # several servers, or what libpq will refuse
        return {"PGHOST": url.rpartition("@")[2].partition("/")[0]}
    more = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    address = address or more.get("host", "")
    if not address or address.startswith("/"):
        return {}
    found = {
        "PGHOST": address,
        "PGPORT": str(port or more.get("port", "5432")),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
        "PGSSLMODE": more.get("sslmode", ""),
        "PGSSLROOTCERT": more.get("sslrootcert", ""),
    }
    return {name: value for name, value in found.items() if value}


def become(user: str) -> None:
    """Give up root's rights for those of ``user`` and its own group alone."""
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(grp.getgrnam(user).gr_gid)
    os.setuid(account.pw_uid)
    os.umask(0o027)


def main() -> None:
    """Run ``manage.py`` of a site's current release as the site's user: SITE PROJECT_DIR WORDS."""
    site, project_dir, words = sys.argv[1], sys.argv[2], sys.argv[3:]
    home = Path("/srv") / site
    environment = read(Path("/etc/switchboard") / site)
    python = str(home / "current" / "venv" / "bin" / "python")
    os.chdir(home / "current" / "app" / project_dir)
    if os.geteuid() == 0:
        become(site)
    path = f"{home}/current/venv/bin:/usr/local/bin:/usr/bin:/bin"
    base = {
        "PATH": path,
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TERM": os.environ.get("TERM", "dumb"),
    }
    os.execve(python, [python, "manage.py", *words], {**base, **environment})  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
