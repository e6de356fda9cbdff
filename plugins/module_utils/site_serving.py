"""What serves a site on this host: mod_wsgi's processes and units, loaded anew in turn, and asked as a visitor asks."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils import service_current, wsgi_group
from ansible.module_utils.site_history import Refused
from ansible.module_utils.systemd_units import (
    Broken,
    Systemd,
    bring_up,
    command,
    planned,
    sockets_of,
)

RENEW_SECONDS = 60  # that a process of mod_wsgi has until another serves in its place
UNIT_SECONDS = 90  # that a unit has until it is active
STEADY = 2  # seconds after which a site's own service is looked at again: a command that ends has started all the same
SMOKE_SECONDS = 10  # within which each path has to answer as it should
ANSWER_SECONDS = 10  # that one answer may take
# What Apache, or nobody, says where its own configuration is written after the release.
UNKNOWN = ("421", "no answer (ConnectionRefusedError)")
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


# The options of what serves a site, for argument specifications.
SERVING: dict[str, Any] = {
    "units": {"type": "list", "elements": "str", "default": []},
    "url": {"type": "str", "default": ""},
    "server": {"type": "str", "default": "http://127.0.0.1:80"},
    "smoke": {"type": "dict", "default": {}},
    "socket_path": {"type": "str", "default": ""},
    "maintenance": {"type": "str", "default": ""},
    "by": {"type": "str", "default": ""},
    "wait": {"type": "int", "default": 300},
}


def expected(status: int, wanted: Any) -> bool:
    """Say whether a status is the wanted one; ``any`` is every one that is no server error."""
    return status < 500 if wanted == "any" else status == int(wanted)


def is_service(unit: str) -> bool:
    """Say whether a unit is a service, which a socket or a timer may start."""
    return unit.endswith(".service")


class Serving:
    """The processes of one site.

    Args:
        site: its name, also its process group's.
        units: the services that run its code, in the order in which they are restarted.
        paths: what they read when they begin, as patterns.
        run_command: AnsibleModule's.
        params: url, server, smoke, socket_path and maintenance, as the modules document them.
    """

    def __init__(
        self,
        site: str,
        units: Sequence[str],
        paths: Sequence[str],
        run_command: Callable[..., tuple[int, str, str]],
        params: Mapping[str, Any],
    ) -> None:
        self.site, self.units, self.paths, self.params = site, list(units), list(paths), params
        self.url: str = params["url"]
        self.run_command, self.systemd = run_command, Systemd(run_command)

    @classmethod
    def of(
        cls, params: Mapping[str, Any], run_command: Callable[..., tuple[int, str, str]]
    ) -> Serving:
        """Return what serves the site of a module's options."""
        paths = [f"{params['environment_dir']}/*.env", f"{params['home']}/current/venv"]
        return cls(params["site"], params["units"], paths, run_command, params)

    def running(self) -> list[str]:
        """Return the units that run or shall run."""
        told = self.systemd.shown(self.units)
        return [
            unit
            for unit in self.units
            if told[unit].get("UnitFileState") == "enabled"
            or told[unit].get("ActiveState") in ("active", "activating", "reloading")
        ]

    def active(self) -> list[str]:
        """Return the site's units that are active, sockets and timers first, which would start the others again."""
        kinds = [f"daphne-{self.site}.socket", f"daphne-{self.site}@*", f"django-{self.site}.*"]
        _, out = self.systemd.run(
            *("systemctl", "list-units", "--plain", "--no-legend", "--full"),
            *("--state=active,activating,reloading", *kinds),
        )
        return sorted(
            (line.split()[0] for line in out.splitlines() if line.strip()), key=is_service
        )

    def behind(self) -> bool:
        """Say whether something serves with other code or another environment than what is written."""
        services = [{"name": unit, "unit": unit, "paths": self.paths} for unit in self.units]
        services.append({"name": self.site, "group": self.site, "paths": self.paths})
        whole = [{"unit": None, "group": None, "stamp": None, **service} for service in services]
        return bool(service_current.behind(whole, [], self.run_command))

    def load(self) -> list[str]:
        """Let all of them load the code that is current: pages, sockets and services at once, each one at a time.

        Returns:
            The units that were restarted.

        Raises:
            Refused: one of them does not serve; the text has its journal.
        """
        units = self.running()
        own = [unit for unit in units if unit.startswith(f"django-{self.site}.")]
        with ThreadPoolExecutor(max_workers=3) as pool:
            pages = pool.submit(wsgi_group.renew, self.site, RENEW_SECONDS)
            sockets = pool.submit(self.restart, [unit for unit in units if unit not in own])
            services = pool.submit(self.restart, own, STEADY)
        try:
            sockets.result()
            services.result()
            pages.result()
        except (Broken, wsgi_group.Stuck) as error:
            raise Refused(str(error)) from error
        return units

    def restart(self, units: list[str], steady: int = 0) -> None:
        """Restart units one after another, each until it is active, and look again after some seconds."""
        if not units:
            return
        systemd = Systemd(command)
        services = sockets_of(systemd, units)
        late = service_current.behind(services, [], command)
        options = {"services": services, "stopped": [], "started": [], "restarted": units}
        bring_up(systemd, planned(systemd, options, list(late)), UNIT_SECONDS, steady)

    def smoke(self) -> str:
        """Ask the site as a visitor does, until each path answers as it should; return why nothing was asked.

        Raises:
            Refused: a path does not answer as it should.
        """
        if not self.url:
            return "no address of the site is known"
        if not wsgi_group.processes(self.site):
            return "Apache does not serve the site yet"
        if os.path.exists(self.params["maintenance"]):
            return "the site is closed for maintenance"
        end = time.monotonic() + SMOKE_SECONDS
        while True:
            if self.unknown():
                return f"Apache does not know {self.url} yet"
            wrong = self.wrong_answers()
            if not wrong:
                return ""
            if time.monotonic() > end:
                raise Refused(
                    f"After {SMOKE_SECONDS} s {self.url} still answers: {'; '.join(wrong)}."
                )
            time.sleep(0.5)  # until the answers are right; the time-out above raises

    def strange(self) -> bool:
        """Say whether Apache serves the site, but not yet at the address that it is to have."""
        return bool(self.url and wsgi_group.processes(self.site) and self.unknown())

    def unknown(self) -> bool:
        """Say whether Apache has yet to learn of the site's name, port or scheme, which it does after the release."""
        said = self.ask("/", {})
        other = "https://" if self.url.startswith("http://") else "http://"
        return said in UNKNOWN or self.location.startswith(f"{other}{urlsplit(self.url).hostname}")

    def wrong_answers(self) -> list[str]:
        """Return each answer that is not as it should be, as a text."""
        wrong = []
        for path, wanted in self.params["smoke"].items():
            said = self.ask(path, {})
            if not (said.isdigit() and expected(int(said), wanted)):
                should = "no server error" if wanted == "any" else str(wanted)
                wrong.append(f"{path} {said} (wanted: {should})")
        socket_path = self.params["socket_path"]
        if socket_path and self.units:
            scheme, _, host = self.url.partition("://")
            said = self.ask(
                socket_path,
                {
                    "Connection": "Upgrade",
                    "Upgrade": "websocket",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": KEY,
                    "Origin": f"{scheme}://{host}",
                },
            )
            if not (said.isdigit() and int(said) < 500):
                wrong.append(f"a WebSocket at {socket_path} {said} (wanted: Daphne's answer)")
        return wrong

    def ask(self, path: str, headers: Mapping[str, str]) -> str:
        """Send one GET and return the status of the answer, or why there is none; keep where it leads."""
        self.location = ""
        split = urlsplit(self.url)
        asked, _, server = self.params["server"].rpartition("://")
        address, _, port = server.rpartition(":")
        if asked not in ("", split.scheme):  # a balancer takes TLS off
            headers = {**headers, "X-Forwarded-Proto": split.scheme}
        connection = http.client.HTTPConnection(split.netloc, timeout=ANSWER_SECONDS)
        try:
            plain = socket.create_connection((address.strip("[]"), int(port)), ANSWER_SECONDS)
            connection.sock = plain
            if (asked or split.scheme) == "https":
                # the certificate is verify's to judge; here it is the release that is asked
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                connection.sock = context.wrap_socket(plain, server_hostname=split.hostname)
            connection.request("GET", path, headers=dict(headers))
            answer = connection.getresponse()
            self.location = answer.headers.get("Location", "")
            return str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            return f"no answer ({type(error).__name__})"
        finally:
            connection.close()
