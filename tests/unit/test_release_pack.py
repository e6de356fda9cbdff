"""The module that fetches a project, looks into it and packs it, on the control node."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from tests.unit.test_site_settings import plugin

release_pack = plugin("modules/release_pack.py")

LOCK = (
    "# made by hand\nDjango==5.2 \\\n    --hash=sha256:00\nchannels==4.2 --hash=sha256:11\n"
    "daphne==4.2 --hash=sha256:22\n"
)
PROJECT = {
    "manage.py": "#!/usr/bin/python3\n",
    "requirements.txt": LOCK,
    "lab/__init__.py": "",
    "lab/settings.py": "",
    "lab/wsgi.py": "",
    "lab/asgi.py": "",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a small good project."""
    for path, text in PROJECT.items():
        (tmp_path / "lab" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lab" / path).write_text(text)
    (tmp_path / "lab" / "manage.py").chmod(0o755)
    return tmp_path / "lab"


def run(tmp_path: Path, **options: Any) -> dict[str, Any]:
    """Run the module as Ansible does, and return its answer."""
    arguments = {
        "site": "lab",
        "source": "directory",
        "cache": str(tmp_path / "cache"),
        "settings_module": "lab.settings",
        "wsgi_module": "lab.wsgi",
        "asgi_module": "lab.asgi",
        **{key: str(value) if isinstance(value, Path) else value for key, value in options.items()},
    }
    said = io.StringIO()
    with patch_module_args(arguments), redirect_stdout(said), pytest.raises(SystemExit) as ended:
        release_pack.main()
    answer: dict[str, Any] = json.loads(said.getvalue())
    assert bool(ended.value.code) == bool(answer.get("failed"))
    return answer


def refused(tmp_path: Path, **options: Any) -> str:
    answer = run(tmp_path, **options)
    assert answer.get("failed"), answer
    assert not list((tmp_path / "cache").glob("*.tar.gz"))
    assert answer["msg"].startswith("Site lab: ")
    return answer["msg"].removeprefix("Site lab: ")


def packed(answer: dict[str, Any]) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(answer["archive"]) as archive:
        return {member.name: member for member in archive}


# -- the pack ------------------------------------------------------------------------------------------


def test_a_folder_is_packed_whole_and_named_by_its_content(tmp_path: Path, project: Path) -> None:
    answer = run(tmp_path, directory=project)
    assert answer["changed"] is False
    assert packed(answer).keys() == PROJECT.keys()
    assert answer["archive"].endswith(f"/lab-{answer['id']}.tar.gz")
    assert len(answer["id"]) == 12


def test_the_same_content_is_the_same_pack_wherever_and_whenever(
    tmp_path: Path, project: Path
) -> None:
    first = run(tmp_path, directory=project)
    data = Path(first["archive"]).read_bytes()
    os.utime(project / "manage.py", (1, 1))
    second = run(tmp_path, directory=project, cache=tmp_path / "other")
    assert second["id"] == first["id"]
    assert Path(second["archive"]).read_bytes() == data


@pytest.mark.parametrize("change", ["text", "name", "mode", "more"])
def test_another_content_is_another_release(tmp_path: Path, project: Path, change: str) -> None:
    first = run(tmp_path, directory=project)["id"]
    if change == "text":
        (project / "lab" / "wsgi.py").write_text("# changed\n")
    elif change == "name":
        (project / "lab" / "wsgi.py").rename(project / "lab" / "web.py")
    elif change == "mode":
        (project / "manage.py").chmod(0o644)
    else:
        (project / "empty.txt").write_text("")
    module = "lab.web" if change == "name" else "lab.wsgi"
    assert run(tmp_path, directory=project, wsgi_module=module)["id"] != first


def test_what_is_excluded_is_left_out_at_every_depth(tmp_path: Path, project: Path) -> None:
    before = run(tmp_path, directory=project)["id"]
    for path in (".git/HEAD", "lab/__pycache__/x.pyc", "lab/deep/__pycache__/y.pyc", "db.sqlite3"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("x")
    exclude = [".git", "__pycache__", "*.sqlite3*"]
    assert run(tmp_path, directory=project, exclude=exclude)["id"] == before


def test_nothing_of_the_control_node_is_in_a_pack(tmp_path: Path, project: Path) -> None:
    for member in packed(run(tmp_path, directory=project)).values():
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (
            0,
            0,
            "",
            "",
            0,
        )
        assert member.mode == (0o755 if member.name == "manage.py" else 0o644)


# -- what can't be served ------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    text = refused(tmp_path, directory="/nonexistent/lab")
    assert text == (
        "django_directory is /nonexistent/lab: the control node has no such directory. "
        "Name your project's folder."
    )


@pytest.mark.parametrize("variable", ["settings_module", "wsgi_module", "asgi_module"])
def test_a_module_that_the_project_lacks_is_refused(
    tmp_path: Path, project: Path, variable: str
) -> None:
    text = refused(tmp_path, directory=project, **{variable: "lab.other"})
    assert text.startswith(f"django_{variable} is lab.other: the project has no such module. ")
    assert "The project has no lab/other.py; name the module as Python imports it" in text
    assert ("leave it empty" in text) == (variable == "asgi_module")


def test_a_module_may_be_a_package(tmp_path: Path, project: Path) -> None:
    assert "id" in run(tmp_path, directory=project, settings_module="lab")


def test_a_project_without_websockets_needs_neither_channels_nor_daphne(
    tmp_path: Path, project: Path
) -> None:
    (project / "requirements.txt").write_text("django==5.2 --hash=sha256:00\n")
    (project / "lab" / "asgi.py").unlink()
    assert "id" in run(tmp_path, directory=project, asgi_module="")


@pytest.mark.parametrize("missing", ["Django", "channels", "daphne"])
def test_a_requirement_that_is_missing_is_refused(
    tmp_path: Path, project: Path, missing: str
) -> None:
    rest = "".join(
        f"{name}==1 --hash=sha256:00\n"
        for name in ("Django", "channels", "daphne")
        if name != missing
    )
    (project / "requirements.txt").write_text(
        f"# {missing}==1\nnot-{missing}==1 --hash=sha256:0\n{rest}"
    )
    text = refused(tmp_path, directory=project)
    assert text.startswith(f"django_requirements is requirements.txt: it lacks {missing.lower()}. ")
    assert "Add it and lock again" in text
    assert ("or leave django_asgi_module empty." in text) == (missing != "Django")


def test_names_of_requirements_are_compared_as_pip_does(tmp_path: Path, project: Path) -> None:
    (project / "requirements.txt").write_text(
        "DJANGO==5.2 --hash=sha256:0\nChannels[daphne]==4 --hash=sha256:0\n"
        "daphne ; python_version>'3' --hash=sha256:0\n"
    )
    assert "id" in run(tmp_path, directory=project)


def test_a_requirement_without_a_hash_is_refused(tmp_path: Path, project: Path) -> None:
    (project / "requirements.txt").write_text(LOCK + "requests==2.0\n")
    text = refused(tmp_path, directory=project)
    assert text.startswith("django_requirements is requirements.txt: requests has no hash. ")
    assert "--generate-hashes" in text
    assert "django_require_hashes to false" in text
    assert "id" in run(tmp_path, directory=project, require_hashes=False)


def test_requirements_that_are_not_there_are_refused(tmp_path: Path, project: Path) -> None:
    text = refused(tmp_path, directory=project, requirements="lock.txt")
    assert text.startswith("django_requirements is lock.txt: the project has no lock.txt. ")


def test_a_folder_without_manage_py_is_refused(tmp_path: Path, project: Path) -> None:
    text = refused(tmp_path, directory=project, project_dir="lab")
    assert text == "django_project_dir is lab: there is no manage.py in it. Name its folder."


# -- git -----------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(project: Path) -> str:
    """Return the address of a repository with a branch, a tag and two commits."""
    git(project, "init", "--quiet", "--initial-branch=trunk")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message=first")
    git(project, "tag", "v1")
    (project / "news.txt").write_text("second\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message=second")
    return project.as_uri()


def test_a_repository_gives_the_same_release_as_its_folder(
    tmp_path: Path, project: Path, repository: str
) -> None:
    by_folder = run(tmp_path, directory=project, exclude=[".git"])["id"]
    assert run(tmp_path, source="git", repository=repository)["id"] == by_folder


def test_a_branch_a_tag_and_a_commit_are_versions(
    tmp_path: Path, project: Path, repository: str
) -> None:
    ids = {
        version: run(tmp_path, source="git", repository=repository, version=version)["id"]
        for version in ("HEAD", "trunk", "v1", git(project, "rev-parse", "v1"))
    }
    assert ids["HEAD"] == ids["trunk"] != ids["v1"]
    assert ids["v1"] == ids[git(project, "rev-parse", "v1")]


def test_a_new_commit_is_fetched(tmp_path: Path, project: Path, repository: str) -> None:
    first = run(tmp_path, source="git", repository=repository)["id"]
    (project / "news.txt").write_text("third\n")
    git(project, "commit", "--quiet", "--all", "--message=third")
    assert run(tmp_path, source="git", repository=repository)["id"] != first


def test_a_rewritten_branch_is_fetched(tmp_path: Path, project: Path, repository: str) -> None:
    run(tmp_path, source="git", repository=repository, version="trunk")
    git(project, "reset", "--quiet", "--hard", "v1")
    at_v1 = run(tmp_path, source="git", repository=repository, version="v1")["id"]
    assert run(tmp_path, source="git", repository=repository, version="trunk")["id"] == at_v1


def test_an_unreachable_repository_is_refused(tmp_path: Path) -> None:
    address = "git://127.0.0.1:1/lab.git"
    text = refused(tmp_path, source="git", repository=address)
    assert text.startswith(f"django_repository is {address}: it can't be fetched: ")
    assert "Connection refused" in text
    assert "Correct the address, or let this control node reach it" in text


def test_a_version_that_the_repository_lacks_is_refused(tmp_path: Path, repository: str) -> None:
    for version in ("v2", "0" * 40):
        text = refused(tmp_path, source="git", repository=repository, version=version)
        assert text.startswith(f"django_version is {version}: {repository} has no such branch, tag")
        assert "Name one that it has; `git ls-remote` lists them." in text


# -- archives ------------------------------------------------------------------------------------------


def tar(path: Path, files: dict[str, str], mode: Any = "w:gz") -> str:
    """Write an archive and return its SHA-256."""
    with tarfile.open(path, mode) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            member.mode = 0o755 if name.endswith("manage.py") else 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve a folder over HTTP on a loopback port; return its URL."""
    (tmp_path / "www").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("top", ["", "lab-1.0/"])
def test_an_archive_gives_the_same_release_as_its_folder(
    tmp_path: Path, project: Path, server: str, mode: str, top: str
) -> None:
    path = tmp_path / "www" / "lab.tar"
    digest = tar(path, {f"{top}{name}": text for name, text in PROJECT.items()}, mode)
    by_folder = run(tmp_path, directory=project)["id"]
    for url in (f"{server}/lab.tar", path.as_uri(), str(path)):
        answer = run(tmp_path, source="archive", archive=url, archive_sha256=digest)
        assert answer["id"] == by_folder


def test_an_archive_that_was_fetched_is_not_fetched_again(tmp_path: Path, server: str) -> None:
    digest = tar(tmp_path / "www" / "lab.tar", PROJECT)
    options = {"source": "archive", "archive": f"{server}/lab.tar", "archive_sha256": digest}
    first = run(tmp_path, **options)
    (tmp_path / "www" / "lab.tar").unlink()
    assert run(tmp_path, **options) == first


def test_another_checksum_is_refused_with_the_one_that_was_found(
    tmp_path: Path, server: str
) -> None:
    digest = tar(tmp_path / "www" / "lab.tar", PROJECT)
    url = f"{server}/lab.tar"
    text = refused(tmp_path, source="archive", archive=url, archive_sha256="0" * 64)
    assert text.startswith(f"django_archive_sha256 is {'0' * 64}: {url} has the SHA-256 {digest}. ")
    assert "Take the sum from a source that you trust" in text
    assert not list((tmp_path / "cache").glob("*.archive"))


@pytest.mark.parametrize("name", ["none.tar", "closed"])
def test_an_archive_that_cannot_be_fetched_is_refused(
    tmp_path: Path, server: str, name: str
) -> None:
    url = f"{server}/none.tar" if name == "none.tar" else "http://127.0.0.1:1/lab.tar"
    text = refused(tmp_path, source="archive", archive=url, archive_sha256="0" * 64)
    assert text.startswith(f"django_archive is {url}: it can't be fetched: ")
    assert "Correct the URL, or let this control node reach it." in text


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "lab/../../outside"])
def test_an_archive_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.tar"
    digest = tar(path, {**PROJECT, name: "x"})
    text = refused(tmp_path, source="archive", archive=path.as_uri(), archive_sha256=digest)
    assert text.startswith(f"django_archive is {path.as_uri()}: it can't be unpacked: ")
    assert name in text


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b cut off"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "lab.tar"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    text = refused(tmp_path, source="archive", archive=str(path), archive_sha256=digest)
    assert text.startswith(f"django_archive is {path}: it can't be unpacked: ")
    assert "Pack the project as a tar archive" in text
