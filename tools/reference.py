"""Write docs/reference.md from the roles: each public variable with its type, default and description.

The types, choices and descriptions stand in `roles/<role>/meta/argument_specs.yml`, the defaults in
`roles/<role>/defaults/main.yml`, the keys of a site's entry in `plugins/site_keys.yml`. Nothing is written
here that does not stand there.

    python3 -m tools.reference            # write the file
    python3 -m tools.reference --check    # fail where it is stale
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tools.common import ROOT, ToolError, main_guard, say

TARGET = ROOT / "docs" / "reference.md"
KEYS = ROOT / "plugins" / "site_keys.yml"
# The order in which site.yml applies the roles; any other role follows by name.
ORDER = (
    "base",
    "access",
    "firewall",
    "logs",
    "zookeeper",
    "kafka",
    "postgresql",
    "valkey",
    "django",
    "daphne",
    "certificates",
    "apache",
    "loadbalancer",
    "backup",
    "monitoring",
)
HEAD = """# Reference: every variable

Generated from the roles' argument specs and defaults by `python3 -m tools.reference`; edit those, not this
page. `{site}` in a value stands for the site's name.
"""
SITES = """## sites

`sites.<name>` is one site; what its keys are, and the role's variable that each becomes. A dot leads into a group:
`websockets.port` is written `websockets: {port: 9109}`. What an entry does not name has the variable's default, or
what the inventory says of the variable for all sites.

In `environment`, `secrets`, `services` and `write_paths` a word in braces stands for what follows from the entry:
`{site}` its name, `{domain}`, `{hosts}` the domain and the aliases as Django's ALLOWED_HOSTS has them, with commas
between them, `{data}` the folder that the site may write to, `{kafka}` the brokers, `{topic_prefix}` what precedes
the site's topics, `{tls}` 1 or 0, `{valkey_url}` and `{valkey_socket}` where its Valkey is. In a service `{port}`
is its port, and `{instance}` the number of each instance. Other braces stay as they are. A relative
`source.directory` lies below the bundle's own folder.

| key | type | default | | variable |
| --- | --- | --- | --- | --- |
"""


def load(path: Path) -> dict[str, Any]:
    """Return the mapping of a YAML file, empty where there is no file."""
    if not path.exists():
        return {}
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return content


def roles(folder: Path) -> list[str]:
    """Return the names of the roles below a folder, in the order of ORDER."""
    names = sorted(path.parent.parent.name for path in folder.glob("*/meta/argument_specs.yml"))
    return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def cell(text: str) -> str:
    """Make a text fit for one cell of a Markdown table: one line, with no bar that would end it."""
    return " ".join(text.split()).replace("|", "\\|")


def code(value: Any) -> str:
    """Return a value as it could be written in YAML on one line, in code type; backticks stay whole."""
    if isinstance(value, str):
        text = value if value and value == " ".join(value.split()) else json.dumps(value)
    else:
        text = json.dumps(value, ensure_ascii=False)
    fence = "``" if "`" in text else "`"
    return cell(f"{fence}{text}{fence}")


def kind(option: dict[str, Any]) -> str:
    """Return an option's type in words: `list of str`, or its choices."""
    name = str(option.get("type", "str"))
    if name == "list" and "elements" in option:
        name = f"list of {option['elements']}"
    if "choices" in option:
        return "one of " + ", ".join(code(choice) for choice in option["choices"])
    return name


def described(option: dict[str, Any]) -> str:
    """Return an option's description, which may be a text or a list of sentences, with its sub-options."""
    words = option.get("description", "")
    text = " ".join(words) if isinstance(words, list) else str(words)
    parts = [
        f"`{name}` ({kind(sub)}{', required' if sub.get('required') else ''}): {described(sub)}"
        for name, sub in (option.get("options") or {}).items()
    ]
    return " ".join([text, *parts]).strip()


def section(folder: Path, role: str) -> str:
    """Return one role's part of the page.

    Raises:
        ToolError: the role has no entry point `main`.
    """
    specs = load(folder / role / "meta" / "argument_specs.yml").get("argument_specs", {})
    if "main" not in specs:
        raise ToolError(f"roles/{role}/meta/argument_specs.yml has no entry point `main`. Add it.")
    options: dict[str, Any] = specs["main"].get("options") or {}
    defaults = load(folder / role / "defaults" / "main.yml")
    lines = [
        f"## {role}",
        "",
        f"{specs['main'].get('short_description', role)}.",
        "",
        "| variable | type | default | |",
        "| --- | --- | --- | --- |",
    ]
    for name, option in options.items():
        default = code(defaults[name]) if name in defaults else ""
        if option.get("required") and name not in defaults:
            default = "**required**"
        lines.append(f"| `{name}` | {kind(option)} | {default} | {cell(described(option))} |")
    return "\n".join(lines)


def sites(folder: Path, keys: dict[str, Any]) -> str:
    """Return the part of the page that tells the keys of a site's entry."""
    options: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for role in roles(folder):
        spec = load(folder / role / "meta" / "argument_specs.yml")["argument_specs"]
        options |= spec.get("main", {}).get("options") or {}
        defaults |= load(folder / role / "defaults" / "main.yml")
    lines = []
    for key, entry in keys.items():
        own = entry if isinstance(entry, dict) else {}
        names = own.get("variables", []) if own else [entry] if isinstance(entry, str) else entry
        option = own or options[names[0]]
        default = code(defaults[names[0]]) if names and names[0] in defaults else ""
        if own.get("required"):
            default = "**required**"
        variables = " ".join(f"`{name}`" for name in names)
        text = cell(described(option))
        lines.append(f"| `{key}` | {kind(option)} | {default} | {text} | {variables} |")
    return SITES + "\n".join(lines)


def page(folder: Path, keys: dict[str, Any]) -> str:
    """Return the whole page for the roles below a folder and the keys of a site's entry."""
    parts = [HEAD.strip(), *([sites(folder, keys)] if keys else [])]
    return "\n\n".join([*parts, *(section(folder, role) for role in roles(folder))]) + "\n"


def main() -> int:
    """Write the page, or with --check tell whether it is stale.

    Raises:
        ToolError: an unknown argument, or a stale page.
    """
    arguments = sys.argv[1:]
    if arguments not in ([], ["--check"]):
        raise ToolError("Usage: python3 -m tools.reference [--check]")
    text = page(ROOT / "roles", load(KEYS))
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    if arguments:
        raise ToolError("docs/reference.md is stale. Fix it with: python3 -m tools.reference")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    say(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    main_guard(main)
