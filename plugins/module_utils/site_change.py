"""The way from the release of a site that is served to the wanted one, and back where that one does not serve."""

from __future__ import annotations

import contextlib
import math
import shutil
from typing import Any

from ansible.module_utils.site_build import Release, differences
from ansible.module_utils.site_history import RECENT, Refused, Releases, Waiting, attempts
from ansible.module_utils.site_move import Move
from ansible.module_utils.site_serving import SERVING, Serving

BUILT = "collectstatic"  # the last step of a build
# Options that a release is not built with: those of the run, and the key, which another host may have made.
PASSING = {"until", "again", "alone", "lock_timeout", "secret_key", "commit", *SERVING}


class Change:
    """The way from the release that is served to the one that is wanted."""

    def __init__(self, params: dict[str, Any], releases: Releases, serving: Serving) -> None:
        self.releases, self.serving = releases, serving
        self.previous, self.left = releases.live(), ""
        back = releases.taken_back(params["id"]) and not params["again"]
        keys = params["rotate_key"] or params["next_key"] or params["forget_keys"]
        if self.previous and (back or keys):
            self.left = params["id"] if back and params["id"] != self.previous else ""
            params = {**params, "id": self.previous}
        self.params, self.release, self.until = params, Release(params, releases), params["until"]
        self.new = not self.release.ready.exists()
        self.moves = self.previous != self.release.id or self.new
        built_with = {key: value for key, value in params.items() if key not in PASSING}
        # what a run has left that was killed is proven again by the next
        age = math.inf if self.until == BUILT else RECENT
        self.waiting = Waiting(self.release.path, built_with, age)
        self.release.seconds |= self.waiting.seconds
        self.rewrites = self.release.write_script(write=False)
        self.files = self.release.changed_files()
        self.outlived = not self.new and bool(self.release.outlived())
        self.reversed = releases.reversing.exists()  # a rollback was killed
        self.writes = bool(
            self.moves or self.rewrites or self.files or self.outlived or self.reversed
        )
        # What to go back to: a run that was killed may have switched to a release that nobody has asked for a page.
        self.proven = releases.proven()
        ready = self.proven and releases.ready(self.proven)
        self.former = self.proven if ready else self.previous
        self.unproven = bool(self.proven and not self.moves and self.proven != self.release.id)
        self.move = Move(self.params, self.release, serving)
        self.release.before_migrate = self.move.judge

    def answer(self, changed: bool) -> dict[str, Any]:
        """Return what the module returns whatever it does."""
        if self.until:
            waits = self.release.id if changed else ""
            told = {"previous": self.previous, "release": self.previous, "waits": waits}
            return {"changed": changed, **told}
        return {
            "changed": changed,
            "previous": self.previous,
            "release": self.release.id,
            "left": self.left,
            "seconds": self.release.seconds,
            "units": [],
            "unasked": "",
            "moved": {},
            "diff": differences(self.release, self.previous, self.files),
        }

    def due(self) -> bool:
        """Say whether there is something to do."""
        if self.until:
            return self.new and self.previous not in ("", self.release.id)
        return self.writes or self.unproven or self.move.pending or self.serving.behind()

    def refuse_strange(self) -> None:
        """Refuse an environment for an address that Apache, which no step of this run changes, does not serve yet."""
        others = {*self.files} - {"secret_key.env"}
        if self.params["alone"] and self.previous and others and self.serving.strange():
            site, first = self.release.site, "with the former database first" * self.move.starts
            raise Refused(
                f"sites.{site}.domain and sites.{site}.tls give {self.serving.url}: Apache on this host does not serve "
                "the site there yet, and where it does serve it the new environment may not answer. Run site.yml "
                f"{first or 'in the place of this'}, which changes both."
            )

    def predicted(self) -> dict[str, Any]:
        """Return what `done` would, and change nothing; the diff says which steps it would take."""
        answer = self.answer(self.due())
        if answer["changed"]:
            self.refuse_strange()
        if answer["changed"] and not self.until:
            built = not self.new and not self.outlived
            steps = [] if built else ["requirements"]
            steps += ["check", "collectstatic", "migrate", "try"] if self.writes else []
            steps += ["move"] if self.move.pending else []
            own = [f"{place} `{'`, `'.join(said)}`" for place, said in self.params["hooks"].items()]
            anew = ["mod_wsgi's processes", *self.serving.running()]
            text = f"steps: {', '.join([*steps, 'switch', 'restart', 'smoke'])}\n"
            text += f"own commands: {'; '.join(own)}\n" if own else ""
            answer["diff"].append({"prepared": f"{text}restarted, one by one: {', '.join(anew)}\n"})
        return answer | {"due": answer["changed"]}

    def done(self) -> dict[str, Any]:
        """Make the wanted release the one that is served, or raise Refused with the former one in its place."""
        answer = self.answer(self.due())
        if self.until:
            self.releases.discard(self.release.id)
        if not answer["changed"]:
            return answer
        self.refuse_strange()
        try:
            if self.writes:
                self.prepare()
            if not self.until:
                self.serve(answer)
        except (Refused, OSError) as error:
            told = error
            if isinstance(error, OSError):
                told = Refused(
                    f"step {self.release.step}: the host can't write what it has to: {error}. Look at the disk "
                    f"(df -h {self.releases.home}) and make room."
                )
            raise Refused(f"{told}\n{self.refused(told)}") from error
        except BaseException:
            if self.new and self.releases.live() != self.release.id:
                self.release.keep_for_a_look()
            raise
        finally:
            shutil.rmtree(self.release.recollected, ignore_errors=True)
        return answer

    def prepare(self) -> None:
        """Do what comes before the switch, or what `until` asks for of it."""
        release = self.release
        if self.new:
            self.build()
        else:
            if self.outlived:
                release.equip()
            release.prove()
            # another storage or another database, or one that a rollback has reversed
            if self.files or self.moves:
                release.recollect()
            if self.files or self.moves or self.reversed:
                release.migrate()
            release.attempt(self.params["url"], self.params["smoke"])
        if self.until != BUILT:
            self.releases.reversing.unlink(missing_ok=True)

    def build(self) -> None:
        """Build the release and try it, and go on where an earlier call ended."""
        release, waiting = self.release, self.waiting
        if not waiting.built:
            release.build()
        elif self.until == BUILT:
            release.prove()
        if self.until != BUILT and not waiting.tried:
            release.migrate()
            release.attempt(self.params["url"], self.params["smoke"])
        if self.until:
            said = {key: self.params[key] for key in ("by", "commit")}
            waiting.keep(tried=self.until != BUILT, seconds=release.seconds, **said)
            self.releases.lend(self.previous)
            return
        release.ready.touch()
        waiting.end()

    def serve(self, answer: dict[str, Any]) -> None:
        """Switch, let the processes load the release, ask for its pages; on a failure bring the former one back."""
        release, before, script = self.release, self.release.written(), self.script()
        try:
            if self.move.starts:
                with release.stage("move"):
                    answer["moved"] = self.move.rows()
                release.attempt(self.params["url"], self.params["smoke"])
            with release.stage("switch"):
                release.swap()  # before the environment, which is what the next run goes by if this one is killed
                release.write_environment(self.files)
                release.write_script(write=True)
                if self.moves:
                    self.releases.switch(release.id)
            with release.stage("restart"):
                answer["units"] = self.serving.load()
            self.move.end()
            with release.stage("smoke"):
                answer["unasked"] = self.serving.smoke()
        except Exception as error:
            # once the site is open on its new database, people write into it: nothing leads back
            if self.former and not self.move.over:
                self.back(error, self.move.begun.get("texts", before), script)
            raise
        if self.moves:
            self.releases.unmark(release.id)
            release.ready.touch()  # it is the newest now
            self.releases.prune(self.params["keep"], release.id, self.previous)
        if self.proven != release.id:
            self.note("released", seconds=release.seconds)

    def script(self) -> str:
        """Return the WSGI script of the release as it is on the host, or an empty text."""
        path = self.release.path / "wsgi.py"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def back(self, first: Exception, before: dict[str, str], script: str) -> None:
        """Serve the former release again; each part of it is tried, whatever becomes of the others."""

        def rewrite() -> None:
            self.release.params = {**self.params, "wsgi_script": script}
            self.release.write_script(write=True)

        wrong = attempts(
            lambda: self.releases.switch(self.former),
            self.release.swap_back,
            lambda: self.release.restore(before),
            *([rewrite] if script and script != self.params["wsgi_script"] else []),
            self.serving.load,
            *([self.move.open] if self.move.pending else []),
        )
        if wrong:
            raise Refused(f"{first}\nNor does the former release serve: {wrong}") from first

    def refused(self, error: Refused) -> str:
        """Keep the failed build, note why, and return what is to be said of the release that is served."""
        release = self.release
        text = "The running release is untouched."
        if release.step in ("move", "switch", "restart", "smoke"):
            text = f"The release {self.former} is served again." if self.former else ""
            if self.moves and self.releases.live() == release.id:
                text = f"Release {release.id} is served."
            text = "The site is open on its new database." if self.move.over else text
        if self.new and self.releases.live() != release.id:
            if self.until:
                self.releases.take_back(release.id)
            place = release.keep_for_a_look()
            text += f" What failed is in {place}." if place else ""
        if self.writes:
            with contextlib.suppress(OSError):  # of a full disk, which is told of already
                self.note("refused", step=release.step, why=str(error))
        return text.strip()

    def note(self, event: str, **more: Any) -> None:
        """Add a line to the site's history."""
        params = self.params
        self.releases.note(
            event,
            self.release.id,
            commit=params["commit"],
            by=params["by"],
            **{"from": self.previous},
            **more,
        )
