"""From a managed server to a site that is verified, a first release and the way back, as docs/first-server.md says.

Its first commands were typed by the tests of onboarding; these type the rest, as it stands there.
"""

from __future__ import annotations

from pathlib import Path

from tests.onboarding.conftest import Managed, Reader

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
