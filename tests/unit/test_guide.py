"""What a guide tells to type, what it shows of the output, and a terminal that types it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.onboarding.guide import Terminal, Typed, commands

GUIDE = """
Do this:

    $ make deploy SITE=lab
    …
    Summary, after 0:20
      release 812381c7c313 (was 5a16180a8048)

    done in …/build
    $ curl http://192.0.2.10/

and read:

    no output: true
"""
PRINTED = """[ 0.1 s] ready

Summary, after 1:07
  release 0123456789ab (was ba9876543210)
done in /tmp/x/build
"""


def test_a_guide_is_read_as_commands_with_their_output(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text(GUIDE)
    first, second = commands(tmp_path / "guide.md")
    assert first[0] == "make deploy SITE=lab"
    assert [line.strip() for line in first[1] if line][-1] == "done in …/build"
    assert second == ("curl http://192.0.2.10/", [""])
    assert Typed(first[0], 0, PRINTED, 1).lacks(first[1]) == []
    assert Typed(first[0], 0, PRINTED.replace("was", "before"), 1).lacks(first[1]) == [
        "  release 812381c7c313 (was 5a16180a8048)"
    ]


def test_a_terminal_keeps_what_a_command_left_and_tells_its_code(tmp_path: Path) -> None:
    with Terminal(tmp_path, os.environ) as terminal:
        assert terminal.type("cd /; false", 10).code == 1
        typed = terminal.type("pwd; printf 'at work …\\r\\033[Kdone\\n'", 10)
    assert (typed.code, typed.output) == (0, "/\ndone\n")
