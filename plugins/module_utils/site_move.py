"""The rows of a site on their way from SQLite to PostgreSQL: nobody writes meanwhile, and no difference is served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils import wsgi_group
from ansible.module_utils.site_build import Release
from ansible.module_utils.site_environment import database_of, parse, read
from ansible.module_utils.site_history import Refused, put
from ansible.module_utils.site_serving import RENEW_SECONDS, Serving, is_service

MOVE_SECONDS = 3600  # that the copy may take
# The options of a move, for argument specifications.
MOVING: dict[str, Any] = {
    "move_database": {"type": "bool", "default": False},
    "move_program": {"type": "str", "default": ""},
    "move_without": {"type": "list", "elements": "str", "default": []},
    "database_empty": {"type": "bool", "default": False},
}


class Move:
    """A site's way from one database to another; most releases have none."""

    def __init__(self, params: Mapping[str, Any], release: Release, serving: Serving) -> None:
        self.params, self.release, self.serving = params, release, serving
        self.state = Path(params["home"]) / ".moving.json"
        self.begun: dict[str, Any] = (
            json.loads(self.state.read_text(encoding="utf-8")) if self.state.is_file() else {}
        )
        served = release.releases.live() and (release.folder / "settings.env").is_file()
        self.former = read(release.folder) if served else dict(release.environment)
        was, will = database_of(self.former), database_of(release.environment)
        # a run that was killed after its switch has moved the rows and left the site closed
        self.finishes = bool(self.begun.get("source")) and was == will
        if self.finishes:
            texts = self.begun["texts"]
            self.former = {
                key: value for name in sorted(texts) for key, value in parse(texts[name]).items()
            }
        self.starts = was == "sqlite" != will and params["move_database"]
        # once somebody has opened it on the new database, people write into that: nothing leads back
        closed = self.begun.get("closed") and not Path(params["maintenance"]).exists()
        self.over = bool(self.finishes and closed)
        if was != will and not (self.starts or params["database_empty"]):
            way = "A snapshot takes them along (docs/database.md); "
            if was == "sqlite":
                way = f"playbooks/move_database.yml -e site={release.site} takes them along; "
            raise Refused(
                f"sites.{release.site}.database is {will}: the site is on {was}, and its rows would stay behind. "
                f"{way if will != 'sqlite' else ''}-e django_database_empty=true begins without them."
            )
        if params["move_database"] and not (self.starts or self.finishes):
            raise Refused(
                f"sites.{release.site}.database is {will}, and so it is on the host already. Nothing is to be moved."
            )

    @property
    def pending(self) -> bool:
        """Say whether there is something to move, or to finish."""
        return self.starts or self.finishes

    def program(self, **job: Any) -> dict[str, Any]:
        """Run move_rows.py in the release with the new environment; raise Refused with what it refuses."""
        whole = {
            "environment": self.release.surroundings(self.former),
            "leave": self.params["move_without"],
            **job,
        }
        result = self.release.program(self.params["move_program"], whole, MOVE_SECONDS)
        try:
            answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            raise Refused(
                f"step move: it ended without an answer. It said:\n{self.release.said(result)}"
            ) from None
        if "error" in answer:
            raise Refused(f"step move: {self.release.hide(answer['error'])}")
        return answer

    def judge(self) -> None:
        """Refuse a database that has rows already."""
        if self.starts:
            self.program(task="empty")

    def rows(self) -> dict[str, int]:
        """Close the site, let its processes end what they do, and copy all rows; return how many each table has."""
        file = Path(self.params["maintenance"])
        closed = self.begun.get("closed", not file.exists())
        # what of the site no release restarts: sockets, timers, and what these have begun
        active = [unit for unit in self.serving.active() if unit not in self.serving.units]
        others = sorted({*self.begun.get("others", []), *active}, key=is_service)
        self.keep({"closed": closed, "texts": self.release.written(), "others": others})
        file.touch(mode=0o644)
        for unit in [*others, *self.serving.running()]:
            self.serving.systemd.act("stop", unit)
        try:
            wsgi_group.renew(self.release.site, RENEW_SECONDS)
        except wsgi_group.Stuck as error:
            raise Refused(f"step move: {error}") from error
        answer = self.program(task="copy")
        self.keep({**self.begun, "source": answer["source"]})
        counts: dict[str, int] = answer["tables"]
        return counts

    def end(self) -> None:
        """Open the site on its new database, unless somebody wrote into the former one meanwhile."""
        if not self.pending:
            return
        if not self.program(task="compare", source=self.begun["source"])["same"]:
            raise Refused(
                "step move: a row in SQLite changed while the site was closed. Look which of the project's own "
                "programs writes beside the site (cron, a shell), stop it, and run this again."
            )
        self.over = True
        self.open()

    def open(self) -> None:
        """Open the site again, where the move closed it, start what it stopped, and forget the move."""
        for unit in self.begun.get("others", []):
            if not is_service(unit):  # a job that was cut begins with its timer
                self.serving.systemd.act("start", unit)
        if self.begun.get("closed"):
            Path(self.params["maintenance"]).unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def keep(self, state: dict[str, Any]) -> None:
        """Write down how far it is, for root alone: the former environment is part of it."""
        self.begun = state
        put(self.state, json.dumps(state), 0o600)
