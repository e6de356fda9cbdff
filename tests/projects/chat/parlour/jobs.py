"""The task queue, and a job that says in a file when it began and when it ended."""

import os
import time
from pathlib import Path

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "parlour.settings")
queue = Celery("parlour")
queue.config_from_object("django.conf:settings", namespace="CELERY")

# a release's own folder, since the link to the current one is followed
RELEASE = Path(__file__).resolve().parents[2].name


@queue.task
def work(name: str, seconds: float) -> None:
    """Take a while; each line of jobs.log is: what, the job, the release, the process, when."""
    from django.conf import settings

    def note(what: str) -> None:
        with (settings.DATA_DIR / "jobs.log").open("a", encoding="utf-8") as file:
            file.write(f"{what} {name} {RELEASE} {os.getpid()} {time.time():.3f}\n")

    note("begin")
    time.sleep(seconds)
    note("end")
