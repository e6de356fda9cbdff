"""`/readyz`: whether the site can do its work. Each part is asked by itself, with its own time-out.

A part that hangs is asked by one thread of the process at most, however often the page is opened,
and the page does not wait for it longer than its time-out. Answers are kept for a second, so that
the page cannot be used to keep the database or Kafka busy.
"""

import threading
import time
from collections.abc import Callable

from django.db import connection
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from notifications import metrics, producer
from notifications.models import Inbox
from notifications.topics import servers, topics

KEPT = 1.0  # seconds for which an answer serves everybody who asks
LAG = 1_000  # records that a consumer may be behind
SILENCE = 20.0  # seconds after which its thread counts as stuck


class NotReadyError(Exception):
    """Why a part cannot do its work, in words that anybody may read."""


def database() -> str:
    """Ask the database for a row."""
    try:
        Inbox.objects.order_by("pk").values_list("pk").first()
    except Exception as error:
        raise NotReadyError("the database does not answer") from error
    finally:
        connection.close()
    return "ok"


def kafka() -> str:
    """Ask the broker for the topics."""
    if not servers():
        return "off"
    from confluent_kafka import KafkaException

    try:
        known = producer.current().topics(TIMEOUTS["kafka"])
    except KafkaException as error:
        raise NotReadyError("no broker answers") from error
    if not all(known.get(name) for name in topics()):
        raise NotReadyError("a topic is missing")
    return "ok"


def consumers() -> str:
    """Look whether every process that holds sockets reads Kafka, and keeps up. Asks nobody."""
    if not servers() or metrics.folder() is None:
        return "off"
    _counters, processes = metrics.read()
    listeners = [gauges for gauges in processes if gauges["listener"]]
    if not listeners:
        raise NotReadyError("no process reads Kafka")
    for gauges in listeners:
        if not gauges["listening"]:
            raise NotReadyError("a process has no partitions")
        if time.time() - gauges["heartbeat"] > SILENCE:
            raise NotReadyError("a process has stopped reading")
        if gauges["lag"] > LAG:
            raise NotReadyError(f"a process is {gauges['lag']:.0f} records behind")
    return "ok"


TIMEOUTS = {"database": 2.0, "kafka": 2.0, "consumers": 1.0}  # seconds


class Part:
    """One part of the site, asked by one thread at a time."""

    def __init__(self, name: str, ask: Callable[[], str]) -> None:
        self.name = name
        self._ask = ask
        self._lock = threading.Lock()
        self._done: threading.Event | None = None  # of the question that is being asked
        self._said = (False, "")
        self._when = -KEPT

    def start(self) -> None:
        """Ask, unless the last answer is fresh or still awaited."""
        with self._lock:
            if self._done is not None or time.monotonic() - self._when < KEPT:
                return
            self._done = threading.Event()
            threading.Thread(target=self._run, args=[self._done], daemon=True).start()

    def answer(self, until: float) -> tuple[bool, str]:
        """Return whether the part is well, and its words; wait for them no longer than `until`."""
        done = self._done
        if done is not None and not done.wait(max(0.0, until - time.monotonic())):
            return False, "no answer in time"
        return self._said

    def _run(self, done: threading.Event) -> None:
        try:
            said = (True, self._ask())
        except NotReadyError as reason:
            said = (False, str(reason))
        except Exception as error:
            said = (False, type(error).__name__)
        with self._lock:
            self._said, self._when, self._done = said, time.monotonic(), None
        done.set()


PARTS = [Part("database", database), Part("kafka", kafka), Part("consumers", consumers)]


@never_cache
@require_safe
def readyz(request: HttpRequest, name: str = "") -> JsonResponse:
    """Answer 200 where all parts are well, 503 otherwise; `/readyz/<part>` asks one alone."""
    parts = [part for part in PARTS if name in ("", part.name)]
    if not parts:
        raise Http404
    begun = time.monotonic()
    for part in parts:
        part.start()
    answers = {part.name: part.answer(begun + TIMEOUTS[part.name] + 0.5) for part in parts}
    well = all(ok for ok, _words in answers.values())
    return JsonResponse(
        {"ready": well, **{name: words for name, (_ok, words) in answers.items()}},
        status=200 if well else 503,
    )
