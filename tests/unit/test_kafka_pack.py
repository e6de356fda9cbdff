"""A pack holds what the lock says, and the same lock gives the same bytes."""

from __future__ import annotations

import hashlib
import http.server
import os
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from plugins.modules import kafka_pack as module

ROLE = Path(__file__).resolve().parents[2] / "roles" / "kafka"
JARS = {"kafka_2.13-3.9.2.jar": b"broker", "kafka-clients-3.9.2.jar": b"client"}
COORDINATES = ["org.apache.kafka:kafka-clients:3.9.2", "org.apache.kafka:kafka_2.13:3.9.2"]


def lock_of(jars: dict[str, bytes]) -> str:
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in jars.items()}
    return "".join(
        f"{coordinate} sha256:{sums[module.file_name(coordinate)]}\n"
        for coordinate in COORDINATES
        if module.file_name(coordinate) in sums
    )


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Return the module's options, with an `mvn` that gives the two jars and counts its calls."""
    mvn = tmp_path / "mvn"
    jars = tmp_path / "jars"
    jars.mkdir()
    for name, data in JARS.items():
        (jars / name).write_bytes(data)
    listed = "\n".join(
        f"   {group}:{artifact}:jar:{version}:compile -- module x"
        for group, artifact, version in (coordinate.split(":") for coordinate in COORDINATES)
    )
    mvn.write_text(
        f"""#!/bin/sh
echo called >> {tmp_path}/calls
for word in "$@"; do
  case $word in
    -DoutputDirectory=*) cp -r {jars} "${{word#*=}}" ;;
    -DoutputFile=*) printf '%s\\n' '{listed}' > "${{word#*=}}" ;;
  esac
done
"""
    )
    mvn.chmod(0o755)
    (tmp_path / "pom.xml").write_text("<project/>")
    (tmp_path / "pom.lock").write_text(lock_of(JARS))
    (tmp_path / "cache").mkdir()
    return {
        "version": "3.9.2",
        "scala_version": "2.13",
        "pom": str(tmp_path / "pom.xml"),
        "lock": str(tmp_path / "pom.lock"),
        "write_lock": False,
        "mvn": str(mvn),
    }


def test_the_shipped_lock_is_read_and_names_no_address() -> None:
    text = (ROLE / "files" / "pom.lock").read_text()
    lock = module.parse_lock(text)
    assert "org.apache.kafka:kafka_2.13:3.9.2" in lock
    assert "://" not in text
    assert len({module.file_name(coordinate) for coordinate in lock}) == len(lock)


@pytest.mark.parametrize("line", ["a:b", "a:b:1 sha256:00", "a:b:1 " + "0" * 64])
def test_a_line_that_locks_nothing_is_refused(line: str) -> None:
    with pytest.raises(module.Refused, match="line 1"):
        module.parse_lock(line)


def test_mavens_list_is_read_with_and_without_a_classifier() -> None:
    text = (
        "\nThe following files have been resolved:\n"
        "   io.netty:netty-buffer:jar:4.1.105.Final:compile -- module io.netty.buffer\n"
        "   \x1b[1mio.netty:netty-epoll:jar:linux-x86_64:4.1.105.Final:runtime\x1b[0m\n"
    )
    coordinates = module.parse_list(text)
    assert coordinates == [
        "io.netty:netty-buffer:4.1.105.Final",
        "io.netty:netty-epoll:4.1.105.Final:linux-x86_64",
    ]
    assert module.file_name(coordinates[1]) == "netty-epoll-4.1.105.Final-linux-x86_64.jar"


def test_a_pack_has_the_layout_of_the_archive(options: dict[str, Any], tmp_path: Path) -> None:
    archive = module.from_maven(options, tmp_path / "cache")
    with tarfile.open(archive) as content:
        names = content.getnames()
        assert {(member.uid, member.mtime) for member in content} == {(0, 0)}
    assert names == [
        "kafka_2.13-3.9.2",
        "kafka_2.13-3.9.2/libs",
        "kafka_2.13-3.9.2/libs/kafka-clients-3.9.2.jar",
        "kafka_2.13-3.9.2/libs/kafka_2.13-3.9.2.jar",
    ]


def test_a_pack_is_made_once_and_always_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    first = module.from_maven(options, tmp_path / "cache")
    assert module.from_maven(options, tmp_path / "cache") == first
    assert (tmp_path / "calls").read_text() == "called\n"
    (tmp_path / "other").mkdir()
    for jar in (tmp_path / "jars").iterdir():
        os.utime(jar, (1, 1))
    assert module.from_maven(options, tmp_path / "other").read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    ("jars", "word"),
    [
        ({**JARS, "kafka_2.13-3.9.2.jar": b"forged"}, "has the SHA-256"),
        ({**JARS, "more-1.jar": b"more"}, "more-1.jar is not in the lock"),
        ({"kafka_2.13-3.9.2.jar": b"broker"}, "kafka-clients:3.9.2 was not resolved"),
    ],
)
def test_what_the_lock_does_not_say_is_refused(
    options: dict[str, Any], tmp_path: Path, jars: dict[str, bytes], word: str
) -> None:
    for jar in (tmp_path / "jars").iterdir():
        jar.unlink()
    for name, data in jars.items():
        (tmp_path / "jars" / name).write_bytes(data)
    with pytest.raises(module.Refused, match=word) as refusal:
        module.from_maven(options, tmp_path / "cache")
    assert f"kafka_maven_lock is {options['lock']}" in str(refusal.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_lock_is_written_from_what_is_resolved(options: dict[str, Any], tmp_path: Path) -> None:
    Path(options["lock"]).unlink()
    module.from_maven({**options, "write_lock": True}, tmp_path / "cache")
    assert module.parse_lock(Path(options["lock"]).read_text()) == module.parse_lock(lock_of(JARS))


def test_a_missing_mvn_is_named_with_the_mend(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(module.Refused, match=r"kafka_source is maven: .*apt install maven"):
        module.from_maven({**options, "mvn": "no-such-mvn"}, tmp_path / "cache")


def test_a_repository_that_does_not_answer_is_named(
    options: dict[str, Any], tmp_path: Path
) -> None:
    Path(options["mvn"]).write_text("#!/bin/sh\necho '[ERROR] Unknown host'\nexit 1\n")
    with pytest.raises(module.Refused, match=r"kafka_source is maven: .*Unknown host.*settings"):
        module.from_maven(options, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


# -- archive -----------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Serve a folder with one file over HTTP on loopback and return the file's address."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "kafka.tgz").write_bytes(b"an archive")
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/kafka.tgz"
        server.shutdown()


RIGHT = hashlib.sha512(b"an archive").hexdigest()


def test_an_archive_with_the_right_sum_is_kept(served: str, tmp_path: Path) -> None:
    archive = module.from_url({"url": served, "sha512": RIGHT.upper()}, tmp_path)
    assert archive.read_bytes() == b"an archive"
    # the cache answers from now on
    assert module.from_url({"url": "http://127.0.0.1:9/", "sha512": RIGHT}, tmp_path) == archive


def test_an_archive_with_the_wrong_sum_is_thrown_away(served: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    wrong = "0" * 128
    with pytest.raises(module.Refused, match=f"kafka_archive_sha512 is {wrong}: .*{RIGHT}"):
        module.from_url({"url": served, "sha512": wrong}, cache)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/kafka.tgz", "no address"])
def test_an_address_that_does_not_answer_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(module.Refused, match=f"kafka_archive_url is {url}: "):
        module.from_url({"url": url, "sha512": RIGHT}, tmp_path)


def test_a_file_that_is_not_there_is_named(served: str, tmp_path: Path) -> None:
    with pytest.raises(module.Refused, match=r"kafka_archive_url .*404"):
        module.from_url({"url": served + ".gone", "sha512": RIGHT}, tmp_path)
