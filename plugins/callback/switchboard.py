"""What a run says to a person: a line for each change with the time, and a summary of what to do next.

The default of this bundle's ansible.cfg. With -v, and with ANSIBLE_STDOUT_CALLBACK=default, Ansible's own output.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible import constants as C  # noqa: N812 - the field's name for it
from ansible import context
from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = """
name: switchboard
type: stdout
short_description: A line for each change, and a summary
description:
  - Shows what a run changed, with the time since its begin; on a terminal also the task that it is at.
  - A message about a role's variable that a site's entry sets under another name names the key of the entry.
  - With -v it is Ansible's default output.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

KEYS = Path(__file__).resolve().parents[1] / "site_keys.yml"
# Variables that follow from a key in another form.
DERIVED = {
    "apache_server_name": "domain",
    "certificates_names": "domain",
    "django_service_ports": "services",
    "django_kafka_topics": "topics",
}
VARIABLE = re.compile(
    r"\b((?:valkey|django|daphne|certificates|apache|backup|monitoring)_[a-z0-9_]+)((?:\.[\w-]+)*)"
    r"(?: \(site ([a-z0-9-]+)\)| of site ([a-z0-9-]+))?"
)
SITE = re.compile(r"(?: \(site|^Site) ([a-z][a-z0-9-]*)(?:\)|: )")


@cache
def variables() -> dict[str, str]:
    """Return the key of a site's entry for each role's variable that is one."""
    found: dict[str, str] = dict(DERIVED)
    for key, entry in yaml.safe_load(KEYS.read_text(encoding="utf-8")).items():
        names = entry.get("variables", []) if isinstance(entry, dict) else entry
        for name in [names] if isinstance(names, str) else names:
            found.setdefault(name, key)
    return found


def in_terms_of_sites(text: str, sites: Collection[str], hint: str = "") -> str:
    """Name the keys of a site's entry where a message names the role's variables.

    Args:
        text: the message; a site in it stands as ``(site lab)``, ``of site lab`` or ``Site lab:``.
        sites: the names of the entries.
        hint: the site that it is about where it names none, such as the item of a loop.
    """
    keys = variables()
    told = SITE.search(text)
    about = told[1] if told else hint

    def key(found: re.Match[str]) -> str:
        name = found[3] or found[4] or about
        if found[1] not in keys or name not in sites:
            return found[0]
        return f"sites.{name}.{keys[found[1]]}{found[2]}"

    changed = VARIABLE.sub(key, text)
    return re.sub(r" \(site [a-z0-9-]+\)(?=$|\n)", "", changed) if changed != text else text


class CallbackModule(Default):  # type: ignore[misc]  # Ansible ships no types
    """Ansible's default output, of which only changes and failures are shown."""

    CALLBACK_NAME = "switchboard"

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()
        self._last_task_banner: Any = None
        self.terminal = sys.stdout.isatty()
        self.variables: Any = None
        self.headline = ""
        self.releases: dict[tuple[str, str], str] = {}
        self.restarted: dict[str, None] = {}
        self.playbook = ""

    @property
    def plain(self) -> bool:
        """Whether Ansible's own output is wanted."""
        return bool(self._display.verbosity)

    def clock(self) -> str:
        """Return the time since the run began as minutes and seconds."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        return f"{minutes}:{seconds:02}"

    def line(self, text: str, color: str | None = None) -> None:
        """Print a line, over the status line where there is one, after the headline of its play."""
        self.status("")
        if self.headline:
            self._display.display(f"\n{self.headline}", color=C.COLOR_HIGHLIGHT)
            self.headline = ""
        self._display.display(text, color=color)

    def status(self, text: str) -> None:
        """Show what goes on now; on a terminal alone, and gone with the next line."""
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r\033[K{text[:width]}")
            sys.stdout.flush()

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Remember the playbook's name, for what comes after it."""
        self.playbook = Path(playbook._file_name).name
        super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember the play's name, which is printed with its first line."""
        self.variables = play.get_variable_manager()
        if self.plain:
            super().v2_playbook_on_play_start(play)
            return
        self._play = play
        self.headline = play.get_name().strip()

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Say nothing of a play that this inventory has no hosts for, as most have none for the balancer's."""
        if self.plain:
            super().v2_playbook_on_no_hosts_matched()
        else:
            self.status("")

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        super()._task_start(task, prefix)
        if not self.plain:
            # a question stands on a line of its own
            asks = task.action.rpartition(".")[2] == "pause"
            self.status("" if asks else f"{self.clock():>6}  {task.get_name().strip()} …")

    def _print_task_banner(self, task: Any) -> None:
        if self.plain:
            super()._print_task_banner(task)
        elif self._last_task_banner != task._uuid and self.diffs:
            self.line(f"{self.clock():>6}  {task.get_name().strip()}")
        self._last_task_banner = task._uuid if self.plain or self.diffs else None

    diffs = False

    def v2_on_file_diff(self, result: Any) -> None:
        """Show a diff below the name of its task."""
        self.diffs = True
        super().v2_on_file_diff(result)
        self.diffs = False

    def v2_runner_on_ok(self, result: Any) -> None:
        """Show what changed, and what a task was to say."""
        self.note(result)
        if self.plain:
            super().v2_runner_on_ok(result)
            return
        values, name = result.result, result.task.get_name().strip()
        self._handle_warnings(values)
        host = result.host.get_name()
        items = [item for item in values.get("results", []) if isinstance(item, Mapping)]
        if result.task.action.rpartition(".")[2] == "debug":
            for item in items or [values]:
                if "msg" in item and not item.get("skipped"):
                    said, label = item["msg"], str(self._get_item_label(item))
                    lines = [
                        self.named(str(line), host, label)
                        for line in (said if isinstance(said, list) else [said])
                    ]
                    self.line(f"{self.clock():>6}  {host}: {lines[0] if lines else ''}")
                    for line in lines[1:]:
                        self.line(f"{'':8}{line}")
        elif values.get("changed"):
            labels = [str(self._get_item_label(item)) for item in items if item.get("changed")]
            told = f": {', '.join(labels)}" if labels else ""
            self.line(f"{self.clock():>6}  {host}: {name}{told}", C.COLOR_CHANGED)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Leave the items to the task's own line."""
        if self.plain:
            super().v2_runner_item_on_ok(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Say nothing of what was left out."""
        if self.plain:
            super().v2_runner_on_skipped(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say nothing of files that are included."""
        if self.plain:
            super().v2_playbook_on_include(included_file)

    def v2_runner_retry(self, result: Any) -> None:
        """Show that a task waits."""
        if self.plain:
            super().v2_runner_retry(result)
        else:
            self.status(f"{self.clock():>6}  {result.task.get_name().strip()}: waiting …")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Show why a task failed; one with a loop has shown it for each item."""
        if self.plain:
            super().v2_runner_on_failed(result, ignore_errors)
        elif not result.result.get("results"):
            self.failure(result, "ignored" if ignore_errors else "FAILED")

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Show why an item of a loop failed."""
        if self.plain:
            super().v2_runner_item_on_failed(result)
        else:
            self.failure(result, "FAILED", str(self._get_item_label(result.result)))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Show why a host can't be reached."""
        if self.plain:
            super().v2_runner_on_unreachable(result)
        else:
            self.failure(result, "UNREACHABLE")

    def failure(self, result: Any, what: str, item: str = "") -> None:
        """Print a failure: the task, the host, the message, and what a command said."""
        values = result.result
        of = f" ({item})" if item else ""
        self.line(
            f"{self.clock():>6}  {what} {result.host.get_name()}: {result.task.get_name().strip()}{of}",
            C.COLOR_ERROR,
        )
        parts = [str(values.get("msg", ""))]
        parts += [
            str(values[key]) for key in ("module_stderr", "stderr", "stdout") if values.get(key)
        ]
        text = self.named("\n".join(parts).strip(), result.host.get_name(), item)
        for line in text.splitlines():
            self._display.display(f"        {line}", color=C.COLOR_ERROR)

    def named(self, text: str, host: str, item: str) -> str:
        """Return a message with the keys of a site's entry in it; ``item`` is that of the loop, maybe the site."""
        return in_terms_of_sites(text, self.sites(host), item) if VARIABLE.search(text) else text

    def sites(self, host: str) -> Mapping[str, Any]:
        """Return the entries of `sites` for a host, as the inventory writes them."""
        known = self.variables._inventory.get_host(host) if self.variables else None
        found = self.variables.get_vars(host=known).get("sites") if known else None
        return found if isinstance(found, Mapping) else {}

    def note(self, result: Any) -> None:
        """Keep what the summary tells."""
        action = result.task.action.rpartition(".")[2]
        values, host, state = result.result, result.host.get_name(), result.task.args.get("state")
        for item in values.get("results", [values]):
            if not isinstance(item, Mapping):
                continue
            label = str(self._get_item_label(item))
            if action in ("site_release", "site_rollback") and item.get("release"):
                new, old = item["release"], item.get("previous")
                moved = f" (was {old})" if old and old != new else ""
                took = [f"{step} {spent} s" for step, spent in (item.get("seconds") or {}).items()]
                self.releases[host, label] = f"{new}{moved}{': ' if took else ''}{', '.join(took)}"
                if item.get("unasked"):
                    self.releases[host, label] += (
                        f"; its pages were not asked for: {item['unasked']}"
                    )
                self.restarted |= dict.fromkeys(item.get("units") or ())
            if not item.get("changed"):
                continue
            if action == "wsgi_renew":
                self.restarted[f"mod_wsgi of {label}"] = None
            elif action == "host_units":
                self.restarted |= dict.fromkeys(item.get("restarted", ()))
            elif state in ("restarted", "reloaded") and item.get("name"):
                self.restarted[f"{item['name']} ({state})"] = None

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the summary."""
        if self.plain:
            super().v2_playbook_on_stats(stats)
            return
        self.headline = f"Summary, after {self.clock()}"
        check = bool(context.CLIARGS.get("check"))
        bad = False
        for host in sorted(stats.processed):
            told = stats.summarize(host)
            failed = told["failures"] + told["unreachable"]
            bad = bad or bool(failed)
            would = "would change" if check else "changed"
            color = C.COLOR_ERROR if failed else C.COLOR_CHANGED if told["changed"] else C.COLOR_OK
            self.line(
                f"  {host}: {told['ok']} tasks, {told['changed']} {would}, "
                f"{told['failures']} failed{', unreachable' if told['unreachable'] else ''}",
                color,
            )
        for (host, name), release in self.releases.items():
            self.line(f"  {address(self.sites(host).get(name, {}))}  release {release}")
        if self.restarted:
            self.line(f"  restarted: {', '.join(self.restarted)}")
        self.line(f"  {following(bad, check, self.playbook)}")


def address(entry: Mapping[str, Any]) -> str:
    """Return the URL of a site's first page, as far as its entry tells it."""
    tls = str(entry.get("tls", "none"))
    return f"{'http' if tls == 'none' else 'https'}://{entry.get('domain', '?')}/"


def following(bad: bool, check: bool, playbook: str = "") -> str:
    """Return what to do next."""
    if bad:
        return "next: correct what is named above and run it again; it goes on where this run ended"
    if check:
        return "next: the same without --check"
    named = [str(name) for name in context.CLIARGS.get("inventory") or []] or ["inventory/demo"]
    here = f"{Path.cwd()}/"
    names = [name.removeprefix(here) for name in named]
    if playbook == "onboard.yml":
        return f"next: ansible-playbook -i {' -i '.join(names)} site.yml --check --diff"
    return f"next: make verify INVENTORY={','.join(names)}"
