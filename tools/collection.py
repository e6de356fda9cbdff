"""Build the roles and plugins as an Ansible collection: build/switchboard-switchboard-<version>.tar.gz.

Within a collection a module finds its module_utils, and a role its filters, by their full names only. So the files are
copied and these names are written out; the sources keep the short ones, which `ansible.cfg` resolves.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tools.common import BUILD, ROOT, environment, main_guard, run, say

NAME = "switchboard.switchboard"
PYTHON_NAME = f"ansible_collections.{NAME}.plugins.module_utils"
PARTS = ("roles", "plugins", "templates")
FILES = ("galaxy.yml", "meta/runtime.yml", "README.md", "LICENSE", "CHANGELOG.md")
# Callbacks, and what reads its playbooks, are for the commands of this project.
LEFT_OUT = ("plugins/callback/", "plugins/vars/")


def filters() -> list[str]:
    """Return the names of the project's own filters."""
    found: list[str] = []
    for path in sorted((ROOT / "plugins" / "filter").glob("*.py")):
        listed = path.read_text(encoding="utf-8").rpartition("return {")[2]
        found += re.findall(r'"(\w+)": \w+', listed)
    return found


def rewrite(text: str, path: str) -> str:
    """Return a file's text with the full names that a collection needs.

    Args:
        text: what it says.
        path: where it is, relative to the project.
    """
    if path.endswith(".py"):
        ours = "|".join(file.stem for file in (ROOT / "plugins" / "module_utils").glob("*.py"))
        text = re.sub(
            rf"from ansible\.module_utils\.({ours}) import", rf"from {PYTHON_NAME}.\1 import", text
        )
        text = text.replace("from ansible.module_utils import", f"from {PYTHON_NAME} import")
        text = re.sub(r'filter_loader\.get\("(\w+)"\)', rf'filter_loader.get("{NAME}.\1")', text)
        return re.sub(r'module_name="(\w+)"', rf'module_name="{NAME}.\1"', text)
    if path.startswith(("roles/", "templates/")):
        return re.sub(rf"(\|\s*)({'|'.join(filters())})\b", rf"\1{NAME}.\2", text)
    return text


def lay_out(folder: Path) -> None:
    """Copy what belongs to the collection into an empty folder, with its names written out."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *PARTS, *FILES])
    for name in listed.stdout.splitlines():
        if name.startswith(LEFT_OUT) or not (ROOT / name).is_file():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            rewrite((ROOT / name).read_text(encoding="utf-8"), name), encoding="utf-8"
        )
        shutil.copymode(ROOT / name, target)


def build(folder: Path) -> Path:
    """Build the collection into a folder; return the archive."""
    layout = folder / "layout"
    shutil.rmtree(layout, ignore_errors=True)
    layout.mkdir(parents=True)
    lay_out(layout)
    command = ["ansible-galaxy", "collection", "build", "--force", "--output-path", str(folder)]
    run(command, cwd=layout, env=environment())
    shutil.rmtree(layout)
    return max(
        folder.glob("switchboard-switchboard-*.tar.gz"), key=lambda path: path.stat().st_mtime
    )


def main() -> int:
    """Build it and say where it is."""
    BUILD.mkdir(exist_ok=True)
    say(f"{build(BUILD).relative_to(ROOT)}: built; `ansible-galaxy collection install` takes it")
    return 0


if __name__ == "__main__":
    main_guard(main)
