"""Uploaded files: everybody reads them from Apache, and nothing in them acts in the site's name."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from testinfra.host import Host

from tests.behaviour.rawhttp import Response, get
from tests.behaviour.sites import Site, rewrite_sites

pytestmark = [pytest.mark.probe, pytest.mark.disruptive]
PAGE = b"<script>alert(document.domain)</script>"


@pytest.fixture(scope="module")
def sites(deployed: dict[str, Any], address: str) -> list[Site]:
    return rewrite_sites(deployed, address)


@pytest.fixture
def folder(host: Host, probe: Site) -> Iterator[str]:
    """Return the name of a folder of uploads that is removed in the end."""
    name = f"of-a-test-{secrets.token_hex(4)}"
    yield name
    host.check_output("rm -rf %s/%s", probe.settings["media_root"], name)


def sending(method: str, path: str, probe: Site, data: bytes) -> bytes:
    kind = "application/octet-stream"
    if (
        len(data) > 2_621_440
    ):  # Django's FILE_UPLOAD_MAX_MEMORY_SIZE: as a form, which goes through a file
        kind = "multipart/form-data; boundary=of-a-test"
        head = 'Content-Disposition: form-data; name="upload"; filename="x"'
        data = f"--of-a-test\r\n{head}\r\n\r\n".encode() + data + b"\r\n--of-a-test--\r\n"
    length = (f"Content-Length: {len(data)}", f"Content-Type: {kind}")
    return get(path, probe.host, length, method) + data


def upload(probe: Site, name: str, data: bytes = PAGE) -> Response:
    """Upload a file and return what Apache answers for it."""
    kept = probe.ask(sending("POST", f"/keep/{name}", probe, data))
    assert (kept.status, kept.header("X-Answered-By")) == (200, "mod_wsgi"), kept.body
    return probe.page(kept.body.decode())


def test_an_uploaded_file_comes_from_apache_itself(probe: Site, folder: str) -> None:
    for data in (
        PAGE,
        b"x" * 3_000_000,
    ):  # in memory, and above FILE_UPLOAD_MAX_MEMORY_SIZE in a file
        response = upload(probe, f"{folder}/deep/down/picture.png", data)
        assert (response.status, response.body) == (200, data)
        assert response.header("X-Answered-By") is None
        assert response.header("Content-Disposition") is None
        assert response.header("Content-Type") == "image/png"


@pytest.mark.parametrize(
    "name",
    [
        "a.html",
        "a.svg",
        "a.xhtml",
        "a.xml",
        "a.png.html",
        "a.js",
        "a",
        "a.php",
        "a.cgi",
        "a.var",
        "a.asis",
        "a.py",
    ],
)
def test_what_could_run_is_saved_and_not_shown(probe: Site, folder: str, name: str) -> None:
    response = upload(probe, f"{folder}/{name}")
    assert (response.status, response.body) == (200, PAGE)
    assert response.header("Content-Disposition") == "attachment"
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert response.header("Content-Type")
    policy = response.header("Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("sandbox; default-src 'none'; ")


@pytest.mark.parametrize("name", ["a.pdf", "a.txt", "a.webp", "a.mp4"])
def test_what_cannot_run_is_shown(probe: Site, folder: str, name: str) -> None:
    response = upload(probe, f"{folder}/{name}")
    assert response.status == 200
    assert response.header("Content-Disposition") is None
    assert response.header("X-Content-Type-Options") == "nosniff"


def test_a_link_among_the_uploaded_files_is_not_followed(
    host: Host, probe: Site, folder: str
) -> None:
    upload(probe, f"{folder}/real.txt", b"real")
    root = probe.settings["media_root"]
    host.check_output("ln -s /etc/hostname %s/%s/link.txt", root, folder)
    host.check_output("ln -s /etc %s/%s/etc", root, folder)
    for path in ("link.txt", "etc/hostname"):
        assert probe.page(f"/media/{folder}/{path}").status == 403


def test_folders_are_not_listed_and_nothing_above_is_reached(probe: Site, folder: str) -> None:
    upload(probe, f"{folder}/a.txt", b"real")
    assert probe.page(f"/media/{folder}/").status in (403, 404)
    for path in (
        "/media/../probe.sqlite3",
        "/media/%2e%2e/probe.sqlite3",
        "/media/..%2fprobe.sqlite3",
    ):
        assert b"SQLite" not in probe.page(path).body


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PROPFIND"])
def test_uploaded_files_are_only_read(probe: Site, folder: str, method: str) -> None:
    upload(probe, f"{folder}/a.txt", b"real")
    answer = probe.ask(sending(method, f"/media/{folder}/a.txt", probe, b"x"))
    assert answer.status in (403, 405, 501)
    assert probe.page(f"/media/{folder}/a.txt").body == b"real"


def test_the_data_beside_the_uploaded_files_stays_private(host: Host, probe: Site) -> None:
    data = probe.settings["media_root"].rpartition("/")[0]
    for user in ("www-data", "nobody"):
        assert host.run("setpriv --reuid=%s --clear-groups --regid=nogroup ls %s", user, data).rc
        assert host.run(
            "setpriv --reuid=%s --clear-groups --regid=nogroup cat %s/probe.sqlite3", user, data
        ).rc
    assert host.run(
        "setpriv --reuid=nobody --clear-groups --regid=nogroup ls %s", probe.settings["media_root"]
    ).rc
