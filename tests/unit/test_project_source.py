"""What belongs to a project although git keeps it elsewhere, and the forms of locks."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_release_pack import PROJECT, git, packed, project, refused, run

__all__ = ["project"]


def commit(folder: Path) -> None:
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=trunk")
    git(folder, "add", "--all", "--force", ".")
    git(folder, "commit", "--quiet", "--message=more")


def library(tmp_path: Path, name: str, text: str = "old\n") -> Path:
    """Return the folder of a repository of one folder with one file."""
    folder = tmp_path / name
    (folder / name).mkdir(parents=True)
    (folder / name / "code.py").write_text(text)
    commit(folder)
    return folder


def add_submodule(folder: Path, address: str | Path, path: str) -> None:
    git(
        folder,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(address),
        path,
    )
    commit(folder)


# -- submodules ----------------------------------------------------------------------------------------


def test_submodules_are_packed_at_their_recorded_commits(tmp_path: Path, project: Path) -> None:
    commit(project)
    inner, outer = library(tmp_path, "inner"), library(tmp_path, "outer")
    add_submodule(outer, inner, "deep/inner")
    add_submodule(project, "../outer", "vendor/outer")
    (outer / "outer" / "code.py").write_text("a later commit\n")
    commit(outer)
    answer = run(tmp_path, source="git", repository=str(project))
    members = packed(answer)
    assert {"vendor/outer/outer/code.py", "vendor/outer/deep/inner/inner/code.py"} <= set(members)
    assert members["vendor/outer/outer/code.py"].size == len("old\n")


def test_a_submodule_that_cannot_be_fetched_is_refused(tmp_path: Path, project: Path) -> None:
    commit(project)
    outer = library(tmp_path, "outer")
    add_submodule(project, outer, "vendor/outer")
    shutil.rmtree(outer)
    text = refused(tmp_path, source="git", repository=str(project))
    assert text.startswith(
        f"django_repository is {project}: its submodule vendor/outer can't be taken at "
    )
    assert f"{outer}: it can't be fetched" in text


def test_a_submodule_without_an_address_is_refused(tmp_path: Path, project: Path) -> None:
    commit(project)
    add_submodule(project, library(tmp_path, "outer"), "vendor/outer")
    (project / ".gitmodules").unlink()
    commit(project)
    text = refused(tmp_path, source="git", repository=str(project))
    assert text.startswith(
        f"django_repository is {project}: its submodule vendor/outer has the address '' "
    )


def test_a_repository_from_elsewhere_gets_nothing_of_this_machine(
    tmp_path: Path, project: Path
) -> None:
    commit(project)
    outer = library(tmp_path, "outer")
    add_submodule(project, outer, "vendor/outer")
    served = subprocess.Popen(
        [
            "git",
            "daemon",
            "--export-all",
            f"--base-path={tmp_path}",
            "--listen=127.0.0.1",
            "--port=9418",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(50):
            probe = ["git", "ls-remote", "git://127.0.0.1/lab"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)  # until it listens; where it never does, the assertion below fails
        text = refused(tmp_path, source="git", repository="git://127.0.0.1/lab")
    finally:
        served.terminate()
        served.wait()
    assert f"its submodule vendor/outer has the address '{outer}' in .gitmodules." in text


def test_a_folder_with_an_empty_submodule_is_refused(tmp_path: Path, project: Path) -> None:
    commit(project)
    add_submodule(project, library(tmp_path, "outer"), "vendor/outer")
    assert "vendor/outer/outer/code.py" in packed(
        run(tmp_path, directory=project, exclude=[".git"])
    )
    shutil.rmtree(tmp_path / "cache")
    git(project, "submodule", "--quiet", "deinit", "--all", "--force")
    text = refused(tmp_path, directory=project, exclude=[".git"])
    assert text == (
        f"django_directory is {project}: its submodule vendor/outer is empty. "
        "Check it out: git submodule update --init --recursive."
    )


# -- large files ---------------------------------------------------------------------------------------


@pytest.fixture
def large(project: Path) -> Path:
    """Return a project with a file that Git LFS keeps."""
    git(project, "init", "--quiet", "--initial-branch=trunk")
    git(project, "lfs", "install", "--local")
    git(project, "lfs", "track", "*.bin")
    (project / "lab" / "model.bin").write_bytes(b"x" * 4096)
    commit(project)
    return project


def test_large_files_are_packed_whole(tmp_path: Path, large: Path) -> None:
    assert len(git(large, "show", "HEAD:lab/model.bin")) < 200
    by_git = run(tmp_path, source="git", repository=large.as_uri())
    assert packed(by_git)["lab/model.bin"].size == 4096
    assert run(tmp_path, directory=large, exclude=[".git"])["id"] == by_git["id"]


def test_pointers_to_large_files_are_refused(tmp_path: Path, large: Path) -> None:
    shutil.rmtree(large / ".git" / "lfs")
    text = refused(tmp_path, source="git", repository=large.as_uri())
    said = (
        "lab/model.bin is a pointer of Git LFS, not the file. Install git-lfs on the control node"
    )
    assert text.startswith(f"django_repository is {large.as_uri()}: {said}")
    (large / "lab" / "model.bin").write_text(git(large, "show", "HEAD:lab/model.bin") + "\n")
    text = refused(tmp_path, directory=large, exclude=[".git"])
    assert text.startswith(f"django_directory is {large}: {said}")


# -- links ---------------------------------------------------------------------------------------------


def test_links_stand_for_what_they_lead_to(tmp_path: Path, project: Path) -> None:
    (project / "again").symlink_to("same")
    (project / "same").symlink_to("lab")
    (project / "lab" / "up.py").symlink_to("../manage.py")
    by_folder = run(tmp_path, directory=project)
    assert packed(by_folder)["again/settings.py"].isfile()
    assert packed(by_folder)["same/up.py"].size == len(PROJECT["manage.py"])
    commit(project)
    assert run(tmp_path, source="git", repository=str(project))["id"] == by_folder["id"]


@pytest.mark.parametrize("to", ["/etc/hostname", "../../outside", "nothing", ".", "self"])
def test_a_link_that_leads_out_of_a_repository_is_refused(
    tmp_path: Path, project: Path, to: str
) -> None:
    (project / "self").symlink_to(to)
    commit(project)
    text = refused(tmp_path, source="git", repository=str(project))
    assert text.startswith(f"django_repository is {project}: self is a link that leads ")
    assert "id" in run(tmp_path, source="git", repository=str(project), exclude=["self"])


@pytest.mark.parametrize("to", ["nothing", "."])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, project: Path, to: str) -> None:
    (project / "self").symlink_to(to)
    text = refused(tmp_path, directory=project)
    assert text.startswith(f"django_directory is {project}: self is a link ")
    assert text.endswith("or add its name to django_exclude.")
    assert "id" in run(tmp_path, directory=project, exclude=["self"])


# -- locks ---------------------------------------------------------------------------------------------


# Small locks as uv 0.13, Poetry 2.5 and `uv export --format pylock.toml` write them, the addresses apart.
PYPROJECT = """
[project]
name = "lab"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["django==5.2.*", "channels", "daphne"]

[project.optional-dependencies]
pg = ["psycopg"]

[dependency-groups]
dev = ["iniconfig"]

[tool.poetry.group.dev.dependencies]
iniconfig = "*"

[tool.poetry.group.docs]
optional = true

[tool.poetry.group.docs.dependencies]
mdurl = "*"
"""
VERSIONS = {
    "asgiref": "3.13.0",
    "channels": "4.3.2",
    "daphne": "4.2.3",
    "django": "5.2.19",
    "iniconfig": "2.3.1",
    "mdurl": "0.1.2",
    "psycopg": "3.3.9",
    "tzdata": "2026.6",
}
ADDRESS = "https://packages.example/simple"
WINDOWS = "sys_platform == 'win32'"


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def uv_lock() -> str:
    needs = {
        "channels": '{ name = "asgiref" }, { name = "django" }',
        "daphne": '{ name = "asgiref" }',
        "django": f'{{ name = "asgiref" }}, {{ name = "tzdata", marker = "{WINDOWS}" }}',
    }
    text = 'version = 1\nrevision = 3\nrequires-python = ">=3.11"\n'
    for name, version in VERSIONS.items():
        if name != "mdurl":
            text += f'''
[[package]]
name = "{name}"
version = "{version}"
source = {{ registry = "{ADDRESS}" }}
dependencies = [{needs.get(name, "")}]
wheels = [
    {{ url = "{ADDRESS}/{name}-{version}-py3-none-any.whl", hash = "sha256:{digest(name)}", size = 1 }},
]
'''
    return (
        text
        + """
[[package]]
name = "lab"
version = "0.1"
source = { virtual = "." }
dependencies = [{ name = "channels" }, { name = "daphne" }, { name = "django" }]

[package.optional-dependencies]
pg = [{ name = "psycopg" }]

[package.dev-dependencies]
dev = [{ name = "iniconfig" }]

[package.metadata]
requires-dist = [
    { name = "channels" },
    { name = "daphne" },
    { name = "django", specifier = "==5.2.*" },
    { name = "psycopg", marker = "extra == 'pg'" },
]
provides-extras = ["pg"]

[package.metadata.requires-dev]
dev = [{ name = "iniconfig" }]
"""
    )


def poetry_lock() -> str:
    text = ""
    for name, version in VERSIONS.items():
        group = {"iniconfig": "dev", "mdurl": "docs"}.get(name, "main")
        marker = {"tzdata": WINDOWS, "psycopg": "extra == 'pg'"}.get(name, "")
        text += f'''
[[package]]
name = "{name}"
version = "{version}"
optional = {str(name == "psycopg").lower()}
python-versions = ">=3.11"
groups = ["{group}"]
{f'markers = "{marker}"' if marker else ""}
files = [
    {{file = "{name}-{version}-py3-none-any.whl", hash = "sha256:{digest(name)}"}},
]
'''
    return text + '[metadata]\nlock-version = "2.1"\npython-versions = ">=3.11"\n'


def pylock() -> str:
    text = 'lock-version = "1.0"\ncreated-by = "uv"\nrequires-python = ">=3.11"\n'
    for name, version in VERSIONS.items():
        if name not in ("iniconfig", "mdurl", "psycopg"):
            text += f'''
[[packages]]
name = "{name}"
version = "{version}"
{f'marker = "{WINDOWS}"' if name == "tzdata" else ""}
index = "{ADDRESS}"
wheels = [{{ url = "{ADDRESS}/{name}.whl", size = 1, hashes = {{ sha256 = "{digest(name)}" }} }}]
'''
    return text


LOCKS = {"uv.lock": uv_lock(), "poetry.lock": poetry_lock(), "pylock.toml": pylock()}


def write_lock(project: Path, form: str, text: str | None = None) -> None:
    (project / "requirements.txt").unlink(missing_ok=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / form).write_text(LOCKS[form] if text is None else text)


def requirements(answer: dict[str, Any]) -> dict[str, str]:
    """Return what pip will read in a pack: each version with its marker."""
    with tarfile.open(answer["archive"]) as archive:
        file = archive.extractfile(answer["requirements"])
        assert file is not None
        lines = file.read().decode().replace("\\\n", " ").splitlines()
    found = dict(line.split(" --hash=")[0].rstrip().split("==", 1) for line in lines)
    assert [line.split("sha256:")[1] for line in lines] == [digest(name) for name in found]
    return found


@pytest.mark.parametrize("form", LOCKS)
def test_each_form_of_lock_gives_its_requirements(tmp_path: Path, project: Path, form: str) -> None:
    write_lock(project, form)
    found = requirements(run(tmp_path, directory=project, exclude_groups=["dev", "no-such"]))
    assert found.pop("tzdata").replace('"', "'") == f"{VERSIONS['tzdata']} ; {WINDOWS}"
    assert found == {name: VERSIONS[name] for name in ("asgiref", "channels", "daphne", "django")}


@pytest.mark.parametrize("form", ["uv.lock", "poetry.lock"])
def test_a_group_that_is_not_left_out_is_installed(
    tmp_path: Path, project: Path, form: str
) -> None:
    write_lock(project, form)
    assert "iniconfig" in requirements(run(tmp_path, directory=project))


def test_a_lock_above_the_projects_folder_is_found(tmp_path: Path, project: Path) -> None:
    write_lock(project, "uv.lock")
    (project / "src").mkdir()
    for name in ("lab", "manage.py"):
        (project / name).rename(project / "src" / name)
    answer = run(tmp_path, directory=project, project_dir="src")
    assert f"src/{answer['requirements']}" in packed(answer)


def test_requirements_txt_is_taken_before_the_others(tmp_path: Path, project: Path) -> None:
    before = (project / "requirements.txt").read_text()
    write_lock(project, "uv.lock")
    (project / "requirements.txt").write_text(before)
    assert run(tmp_path, directory=project)["requirements"] == "requirements.txt"
    named = run(tmp_path, directory=project, requirements="uv.lock")
    assert named["requirements"] == "switchboard-requirements.txt"


@pytest.mark.parametrize(
    ("form", "old", "new", "why"),
    [
        ("uv.lock", "[[package]]", "[[package", "uv could not read it (error: Failed to parse"),
        ("uv.lock", "wheels = [", "other = [", "asgiref==3.13.0 has no hash. Require a"),
        ("poetry.lock", 'lock-version = "2.1"', 'lock-version = "2.0"', "its format is 2.0, which"),
        (
            "poetry.lock",
            'groups = ["main"]',
            "",
            "it can't be read (KeyError: 'groups'). Lock again.",
        ),
        ("poetry.lock", "[[package]]", "[[package", "it can't be read (TOMLDecodeError: "),
        ("pylock.toml", "hashes = {", "size2 = {", "asgiref comes from a folder, a repository or"),
        (
            "pylock.toml",
            WINDOWS,
            "'dev' in dependency_groups",
            "tzdata is for some extras or groups",
        ),
    ],
)
def test_a_lock_that_cannot_be_used_is_refused(
    tmp_path: Path, project: Path, form: str, old: str, new: str, why: str
) -> None:
    assert old in LOCKS[form]
    write_lock(project, form, LOCKS[form].replace(old, new))
    text = refused(tmp_path, directory=project)
    assert text.startswith(f"django_requirements is {form}: ")
    assert why in text


@pytest.mark.parametrize("form", ["uv.lock", "poetry.lock"])
def test_a_lock_without_its_project_is_refused(tmp_path: Path, project: Path, form: str) -> None:
    write_lock(project, form)
    (project / "pyproject.toml").unlink()
    text = refused(tmp_path, directory=project)
    assert text.startswith(f"django_requirements is {form}: there is no pyproject.toml beside it.")


def test_without_a_lock_the_forms_are_named(tmp_path: Path, project: Path) -> None:
    (project / "requirements.txt").unlink()
    assert refused(tmp_path, directory=project) == (
        "django_requirements is not set: the project has no requirements.txt, uv.lock, pylock.toml or poetry.lock. "
        "Name the locked requirements: a requirements.txt with hashes, uv.lock, pylock.toml or poetry.lock."
    )
