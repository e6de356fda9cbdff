"""Only a run that tells a service of its new password may leave one on the control node."""

from __future__ import annotations

from pathlib import Path

from plugins.filter.passwords import password_files


def test_a_password_that_is_there_is_taken_and_none_is_left_by_who_tells_nobody(
    tmp_path: Path,
) -> None:
    there, lacking = tmp_path / "kafka-lab", tmp_path / "kafka-broker"
    there.write_text("of-the-first-run")
    paths = [str(there), str(lacking)]
    assert password_files(paths, False) == [str(there), "/dev/null"]
    assert password_files(paths, True) == paths
