"""From a managed server to a site that is verified, a first release and the way back, as docs/first-server.md says.

Its first commands were typed by the tests of onboarding; these type the rest, as it stands there.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.onboarding.conftest import GUIDE, Managed, Reader
from tests.onboarding.guide import commands
from tests.onboarding.server import ROOT

README = ROOT / "README.md"
READY = "Everything is as it should be"


def test_the_rest_of_the_guide_does_what_it_says(
    managed13: Managed, reader: Reader, bundle: Path
) -> None:
    if reader.left and reader.left[0][0].startswith("make onboard"):
        reader.type("make onboard")  # the test of a second run was not asked for
    report = bundle / "build" / "verify" / "lab" / "report.html"
    while reader.left:
        typed = reader.type("")
        if typed.command.startswith("make verify"):
            assert READY in report.read_text(encoding="utf-8"), typed.output[-5000:]
    assert report.exists(), "the guide verifies nothing"


def test_the_readme_has_the_same_commands() -> None:
    readme = re.sub(r" +", " ", README.read_text(encoding="utf-8"))
    typed = [
        re.match(r"make [\w-]+|ansible-playbook .*|source .*", line) for line, _ in commands(GUIDE)
    ]
    wanted = {found[0] for found in typed if found}
    assert len(wanted) > 6
    assert sorted(command for command in wanted if command not in readme) == []
