"""A data folder is refused when another server wrote it, and its room is that of the file system it will be on."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.module_utils import host_storage as module

EXPECT = {"file": "meta.properties", "key": "broker.id", "value": "1", "variable": "kafka_node_id"}


@pytest.mark.parametrize("text", ["version=0\nbroker.id=1\n", "version=0\n", "broker.id = 1\n"])
def test_the_same_number_or_none_is_accepted(tmp_path: Path, text: str) -> None:
    (tmp_path / "meta.properties").write_text(text)
    assert module.differences(str(tmp_path), [EXPECT]) == []


def test_a_folder_that_is_not_there_is_accepted(tmp_path: Path) -> None:
    assert module.differences(str(tmp_path / "none"), [EXPECT]) == []
    assert module.free_mb(str(tmp_path / "none" / "deeper")) == module.free_mb(str(tmp_path))


def test_another_number_is_refused_with_both_ways_on(tmp_path: Path) -> None:
    (tmp_path / "meta.properties").write_text("broker.id=7\n")
    (error,) = module.differences(str(tmp_path), [EXPECT])
    assert error.startswith("kafka_node_id is 1: ")
    assert "Set kafka_node_id to 7" in error
    assert str(tmp_path) in error


def test_a_file_that_is_the_value_itself_is_compared(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("3\n")
    entry = {"file": "myid", "value": "1", "variable": "zookeeper_id"}
    (error,) = module.differences(str(tmp_path), [entry])
    assert error.startswith("zookeeper_id is 1: ")
