"""What is loaded once for all tasks of a run is what they use."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from ansible._internal._datatag._tags import Origin
from ansible.executor import module_common
from ansible.module_utils import basic

from plugins.callback import preload


def test_what_modules_share_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_common, "_compile_module_ast", module_common._compile_module_ast)
    assert preload.parse_shared() > 30
    kept = module_common._compile_module_ast
    before = kept.cache_info()
    # as Ansible asks for it when it packs a module
    source = Origin(path=basic.__file__).tag(Path(basic.__file__).read_bytes())
    kept("ansible.module_utils.basic", source)
    after = kept.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)


def test_ansible_asks_for_it_by_that_name() -> None:
    called = inspect.getsource(module_common).count("_compile_module_ast(")
    assert called > 1  # where it stands, and where it is asked


def test_another_ansible_packs_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(module_common, "_compile_module_ast")
    assert preload.parse_shared() == 0
