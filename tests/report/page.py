"""Writes the record of `make verify` as JSON and as one page of HTML that needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2


def html(record: dict[str, Any]) -> str:
    """Return the page."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(record=record)


def write(record: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write report.json and report.html into a folder, for their owner alone; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.json": json.dumps(record, indent=2, ensure_ascii=False) + "\n", "report.html": html(record)}
    for name, text in texts.items():
        path = folder / name
        new = folder / f".{name}.new"
        new.touch(mode=0o600)
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    return folder / "report.json", folder / "report.html"
