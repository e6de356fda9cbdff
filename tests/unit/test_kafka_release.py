"""A release is unpacked whole or not at all, and only where it belongs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from plugins.modules import kafka_release as module
from tests.unit.run_module import run_module

GOOD = {
    "kafka_2.13-3.9.2/libs/kafka_2.13-3.9.2.jar": 0o600,
    "kafka_2.13-3.9.2/bin/kafka-topics.sh": 0o700,
}


def archive(path: Path, names: dict[str, int], link: str = "") -> str:
    with tarfile.open(path, "w:gz") as content:
        for name, mode in names.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid = 3, mode, 4711
            content.addfile(entry, io.BytesIO(b"jar"))
        if link:
            entry = tarfile.TarInfo(f"kafka_2.13-3.9.2/{link}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/shadow"
            content.addfile(entry)
    return str(path)


def test_an_archive_is_unpacked_without_its_top_folder(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    module.unpack(archive(tmp_path / "a.tgz", GOOD, link="evil"), str(folder), "3.9.2", "2.13")
    modes = {
        path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777
        for path in folder.rglob("*")
    }
    assert modes == {
        ".complete": 0o644,
        "bin": 0o755,
        "bin/kafka-topics.sh": 0o755,
        "libs": 0o755,
        "libs/kafka_2.13-3.9.2.jar": 0o644,
    }


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({**GOOD, "../../etc/cron.d/evil": 0o644}, "leads out of it"),
        ({**GOOD, "/etc/cron.d/evil": 0o644}, "leads out of it"),
        ({**GOOD, "other/file": 0o644}, "2 top-level folders"),
        (
            {"kafka_2.13-3.8.1/libs/kafka_2.13-3.8.1.jar": 0o644},
            "kafka_version is 3.9.2: the archive holds Kafka 2.13-3.8.1",
        ),
        (
            {"kafka_2.13-3.9.2/libs/kafka-clients-3.9.2.jar": 0o644},
            "kafka_version is 3.9.2: the archive holds no Kafka",
        ),
    ],
)
def test_a_wrong_archive_leaves_no_release(
    tmp_path: Path, names: dict[str, int], words: str
) -> None:
    folder = tmp_path / "release"
    with pytest.raises(module.Refused, match=words):
        module.unpack(archive(tmp_path / "a.tgz", names), str(folder), "3.9.2", "2.13")
    assert not folder.exists()


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_text("<html>404</html>")
    with pytest.raises(module.Refused, match="no tar archive"):
        module.unpack(str(tmp_path / "a.tgz"), str(tmp_path / "release"), "3.9.2", "2.13")


def test_an_archive_that_changed_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(module.Refused, match="after the transfer"):
        module.check_archive(str(tmp_path / "a"), "0" * 64)


def test_commands_of_another_version_are_removed(tmp_path: Path) -> None:
    release, commands = tmp_path / "root" / "kafka_2.13-4.4.0", tmp_path / "bin"
    release.mkdir(parents=True)
    commands.mkdir()
    (release / ".complete").touch()
    for name in ("zookeeper-shell.sh", "other.sh"):
        (commands / name).write_text("#!/bin/sh\n")
    arguments = {
        **{"name": release.name, "root": str(release.parent), "bin": str(commands)},
        **{"version": "4.4.0", "scala_version": "2.13", "gone": ["zookeeper-shell.sh"]},
    }
    assert run_module("kafka_release", arguments, check=True)["changed"]
    assert (commands / "zookeeper-shell.sh").exists()
    assert run_module("kafka_release", arguments)["diff"][-1]["before"] == "#!/bin/sh\n"
    assert [path.name for path in commands.iterdir()] == ["other.sh"]
    assert not run_module("kafka_release", arguments)["changed"]
