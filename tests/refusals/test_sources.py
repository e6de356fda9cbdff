"""The other ways for a project to come: git and archives."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.refusals.bench import ROOT, Bench


@pytest.fixture
def news() -> str:
    """Return a word that no release before this test had."""
    return f"edition-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def project(tmp_path: Path, news: str) -> Path:
    """Return the plain project with a small change that its first page shows."""
    folder = tmp_path / "work" / "plain"
    shutil.copytree(ROOT / "tests" / "projects" / "plain", folder)
    path = folder / "entries" / "views.py"
    path.write_text(path.read_text().replace("ledger: ", f"ledger {news}: "))
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder over HTTP on a loopback port of the control node; return it and its URL."""
    folder = tmp_path / "www"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def release(bench: Bench, news: str, cache: Path, **changes: Any) -> None:
    """Release `plain`, see the change through Apache, and see that a second run changes nothing."""
    values = {
        "django_sites": [bench.site("django", "plain", **changes)],
        "django_cache": str(cache),
    }
    first = bench.role("django", **values)
    assert first.code == 0, first.output[-4000:]
    assert news in bench.page("plain")
    before = bench.state()
    second = bench.role("django", **values)
    assert second.code == 0, second.output[-4000:]
    assert "changed=0 " in second.output
    assert bench.state() == before


def test_a_project_from_git(bench: Bench, project: Path, news: str, tmp_path: Path) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false")
    bare = tmp_path / "plain.git"
    for words in (
        ("init", "--quiet", "--initial-branch=trunk"),
        ("add", "."),
        (*identity, "commit", "--quiet", "--message=A small change"),
        ("clone", "--quiet", "--bare", ".", str(bare)),
    ):
        subprocess.run(["git", *words], cwd=project, check=True)
    release(
        bench,
        news,
        tmp_path / "cache",
        source="git",
        repository=bare.as_uri(),
        version="trunk",
    )


@pytest.mark.soak
def test_a_project_from_an_archive(
    bench: Bench, project: Path, news: str, server: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = server
    with tarfile.open(folder / "plain.tar.gz", "w:gz") as archive:
        archive.add(project, "plain-1.0")
    release(
        bench,
        news,
        tmp_path / "cache",
        source="archive",
        archive=f"{url}/plain.tar.gz",
        archive_sha256=hashlib.sha256((folder / "plain.tar.gz").read_bytes()).hexdigest(),
    )
