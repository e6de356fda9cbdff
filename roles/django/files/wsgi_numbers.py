"""Tell whoever asks on this host how busy a process of mod_wsgi is.

Each process listens at an abstract UNIX socket (unix(7)), `switchboard-wsgi/<site>/<process>`, and answers a connection
with one line of JSON: the numbers of mod_wsgi's own metrics (its release notes, 4.8 and later). They are no secret.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from typing import Any

SECONDS = 2.0  # that one who asks has to take the answer


def numbers(mod_wsgi: Any) -> dict[str, float]:
    """Return how many threads there are and are busy, and what came of the requests since somebody last asked."""
    told = mod_wsgi.request_metrics()
    wanted = ("request_threads_maximum", "capacity_utilization", "queue_time_total")
    found = {key: float(told.get(key) or 0.0) for key in wanted}
    return found | {"active_requests": float(len(mod_wsgi.active_requests))}


def answer(listener: socket.socket, mod_wsgi: Any) -> None:
    """Answer one after another until the process ends."""
    while True:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(SECONDS)
                connection.sendall(json.dumps(numbers(mod_wsgi)).encode() + b"\n")
        except Exception:  # nobody's page is to suffer from it
            time.sleep(1)  # where there are no more files, the next one fails at once, too


def tell(site: str) -> None:
    """Begin to answer; outside of mod_wsgi there is nothing to tell."""
    try:
        import mod_wsgi  # it is there within Apache alone

        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"\0switchboard-wsgi/{site}/{os.getpid()}")
        listener.listen(4)
        mod_wsgi.request_metrics()  # the first one begins the count
        threading.Thread(target=answer, args=(listener, mod_wsgi), daemon=True).start()
    except (ImportError, AttributeError, OSError, RuntimeError):
        return
