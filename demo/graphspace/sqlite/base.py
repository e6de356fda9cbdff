"""SQLite, whose writers wait in line.

SQLite gives its write lock to whoever happens to ask when it is free, and who waits asks ten times a
second. With many threads that write, some wait for the whole time-out and fail, though each has the
lock for milliseconds; where the disk is slow, a process that asks so seldom falls behind for seconds.
Here one thread of each process asks SQLite, every two milliseconds, and the others wait their turn.
It is a courtesy, not a lock: who waited as long as the time-out asks SQLite all the same.
"""

import os
import sqlite3
import threading
import time
from collections import defaultdict
from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3 import base

ASK_EVERY = 0.002  # seconds

_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
# The thread that held a turn does not exist in a forked process.
os.register_at_fork(after_in_child=_turns.clear)


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that takes its turn before a transaction, and gives it back after the commit."""

    _turn: Any = None  # threading.Lock, which is no type before Python 3.13

    def _start_transaction_under_autocommit(self) -> None:
        turn = _turns[str(self.settings_dict["NAME"])]
        timeout = self.settings_dict["OPTIONS"].get("timeout", 5.0)  # sqlite3.connect's own default
        until = time.monotonic() + timeout
        self._turn = turn if turn.acquire(timeout=timeout) else None
        try:
            self.connection.execute("PRAGMA busy_timeout = 0")
            try:
                self._ask(until)
            finally:
                self.connection.execute(f"PRAGMA busy_timeout = {round(timeout * 1000)}")
        except BaseException:
            self._give_back()
            raise

    def _ask(self, until: float) -> None:
        """Begin a transaction as soon as SQLite lets this process, until a time of time.monotonic()."""
        while True:
            try:
                return super()._start_transaction_under_autocommit()
            except OperationalError as error:
                code = getattr(error.__cause__, "sqlite_errorcode", 0)
                busy = code & 0xFF == sqlite3.SQLITE_BUSY  # or an extended code of it
                if not busy or time.monotonic() > until:
                    raise
            time.sleep(ASK_EVERY)  # until the time-out; SQLite tells nobody when its lock is free

    def _set_autocommit(self, autocommit: bool) -> None:
        try:
            super()._set_autocommit(autocommit)
        finally:
            if autocommit:
                self._give_back()

    def _close(self) -> None:
        try:
            super()._close()
        finally:
            self._give_back()

    def _give_back(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.release()
