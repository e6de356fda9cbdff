"""What a run is told is read once, and what can't change is not copied."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible.constants import config
from ansible.module_utils._internal import _datatag
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import vars_loader
from ansible.template import is_trusted_as_template

from plugins.vars import read_once


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[read_once.VarsModule]:
    before = gc.get_threshold()
    for name in read_once.UNCHANGING:
        # what it sets is taken away again
        monkeypatch.setattr(getattr(_datatag, name), "__deepcopy__", None, raising=False)
    yield read_once.VarsModule()
    gc.set_threshold(*before)


def read(loader: DataLoader) -> Any:
    """Return what `vars_files` of a play gets of it (VariableManager.get_vars)."""
    return loader.load_from_file(
        str(read_once.KEPT), cache="vaulted", unsafe=True, trusted_as_template=True
    )


def test_the_wiring_is_parsed_once(
    plugin: read_once.VarsModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = DataLoader()
    assert plugin.get_vars(loader, "", []) == {}
    monkeypatch.setattr(loader, "load", lambda *args, **kwargs: pytest.fail("it is parsed again"))
    assert read(loader) is read(loader)


def test_it_is_what_ansible_reads_without_the_plugin(plugin: read_once.VarsModule) -> None:
    loader = DataLoader()
    plugin.get_vars(loader, "", [])
    kept, fresh = read(loader), read(DataLoader())
    assert kept == fresh == yaml.safe_load(read_once.KEPT.read_text(encoding="utf-8"))
    assert is_trusted_as_template(kept["kafka_brokers"])


def test_a_copy_shares_words_and_nothing_that_can_change(plugin: read_once.VarsModule) -> None:
    loader = DataLoader()
    plugin.get_vars(loader, "", [])
    kept = read(loader)
    copied = copy.deepcopy(kept)
    assert copied == kept
    assert type(copied) is type(kept)
    assert copied["__wiring"] is not kept["__wiring"]
    assert copied["kafka_brokers"] is kept["kafka_brokers"]
    tags = _datatag.AnsibleTagHelper.tags
    assert tags(copied["__wiring"]) == tags(kept["__wiring"]) != frozenset()


def test_tags_can_not_change() -> None:
    (tag,) = (
        tag for tag in _datatag.AnsibleTagHelper.tags(read(DataLoader())) if hasattr(tag, "path")
    )
    with pytest.raises(AttributeError):
        tag.path = "/elsewhere"


def test_this_ansible_has_what_it_names() -> None:
    assert all(hasattr(_datatag, name) for name in read_once.UNCHANGING)


def test_another_ansible_copies_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_once, "UNCHANGING", ("_NoSuchType",))
    assert read_once.share_unchanging() == []


def test_ansible_loads_it_with_the_inventory() -> None:
    vars_loader.add_directory(str(read_once.KEPT.parents[2] / "plugins" / "vars"))
    assert vars_loader.get("read_once") is not None
    stage = config.get_configuration_definitions("vars", "read_once")["stage"]
    assert stage["default"] == "inventory"
