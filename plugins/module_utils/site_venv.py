"""The virtual environment of a site's release, made of its lock by the host's Python, and what is beside it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.site_history import Refused
from ansible.module_utils.site_project import Project, last_lines


def ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command as root; what it makes may be read by everybody."""
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=0o022,
        check=False,
    )


# Where Debian's python3-venv has the pip that it puts into an environment.
WHEELS = Path("/usr/share/python-wheels")
# What Python runs when it starts in the environment (site, "import" lines): a process goes on importing from the one
# that it began with, although /srv/<site>/current leads to another by now.
PINNED = "import os, sys; sys.path[:] = [each and os.path.realpath(each) for each in sys.path]\n"


class Environed(Project):
    """A release with its virtual environment."""

    def python_version(self) -> str:
        """Return what the host's Python says of itself: a word, its version, and how it was built."""
        command = [self.params["python"], "-VV"]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

    def outlived(self) -> str:
        """Return why the release's environment can't be used, as where Debian was upgraded, or an empty text.

        Its packages are in the folder of one minor version, and its interpreter is a link to the host's.
        """
        found = [path.name for path in (self.path / "venv" / "lib").glob("python3*")]
        if not found:
            return ""
        version = self.python_version().split()[1]
        wanted = "python" + ".".join(version.split(".")[:2])
        return "" if wanted in found else f"it was made for {found[0]}, and this host has {wanted}"

    def virtualenv(self) -> None:
        """Make the virtual environment of the locked requirements, or take the one that is there."""
        requirements = self.project / self.params["requirements"]
        key = hashlib.sha256(
            requirements.read_bytes()
            + self.python_version().encode()
            + " ".join([*self.params["pip_args"], PINNED]).encode()
        ).hexdigest()[:12]
        path = self.home / "venvs" / key
        if not (path / ".complete").exists():
            shutil.rmtree(path, ignore_errors=True)
            path.parent.mkdir(exist_ok=True)
            hashes = ["--require-hashes"] if self.params["require_hashes"] else []
            made = self.installed(path, *hashes, requirements=requirements)
            if made.returncode:
                shutil.rmtree(path, ignore_errors=True)
                raise Refused(
                    f"django_requirements is {self.params['requirements']}: pip could not install it. "
                    "Correct the lock, or make the package index reachable from this host. "
                    f"The running release is untouched. It said:\n{last_lines(made.stdout)}"
                )
            packages = next((path / "lib").glob("python3*/site-packages"))
            (packages / "switchboard.pth").write_text(PINNED, encoding="utf-8")
            (path / ".complete").touch()
        draft = self.path / ".venv.new"
        draft.unlink(missing_ok=True)
        draft.symlink_to(os.path.relpath(path, self.path))
        os.replace(draft, self.path / "venv")  # in one step: processes may begin with it

    def equip(self) -> None:
        """Give the release its virtual environment, and compile its code for that."""
        with self.stage("requirements"):
            self.virtualenv()
            # by the host's Python: the environment's own runs what its packages ask for (*.pth) when it starts
            subprocess.run(
                [self.params["python"], "-I", "-m", "compileall", "-q", str(self.path / "app")],
                group=self.site,  # who can't write there, and reads what is compiled
                extra_groups=[],
                umask=0o027,
                check=False,
            )

    def installed(
        self, path: Path, *words: str, requirements: Path
    ) -> subprocess.CompletedProcess[str]:
        """Make an environment, and let pip install there what a file names, with the site's own arguments.

        From Python 3.12 on an environment has pip and nothing else. To put it there takes longer than all that is done
        with it, so that Debian's is run from where that has it.
        """
        version = tuple(int(part) for part in self.python_version().split()[1].split(".")[:2])
        wheels = sorted(WHEELS.glob("pip-*.whl")) if version >= (3, 12) else []
        bare = ["--without-pip"] if wheels else []
        made = ran([self.params["python"], "-m", "venv", *bare, str(path)])
        if made.returncode:
            return made
        pip = [str(wheels[-1] / "pip")] if wheels else ["-m", "pip"]
        quiet = ["install", "--no-input", "--disable-pip-version-check", "--quiet"]
        more = [*words, *self.params["pip_args"], "-r", str(requirements)]
        return ran([str(path / "bin" / "python"), *pip, *quiet, *more])

    def linter(self) -> Path:
        """Return the folder of django-migration-linter, which is installed when it is first needed."""
        text = self.params["linter"]
        path = Path(self.params["linter_dir"]) / hashlib.sha256(text.encode()).hexdigest()[:12]
        if not path.is_dir():
            draft = path.with_suffix(".new")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            lock = draft / "linter.txt"
            lock.write_text(text, encoding="utf-8")
            # by a pip of its own: the site's Python runs what the site's packages ask for when it starts
            own = draft / ".venv"
            words = ["--no-deps", "--require-hashes", "--target", str(draft)]
            result = self.installed(own, *words, requirements=lock)
            if result.returncode:
                shutil.rmtree(draft, ignore_errors=True)
                raise Refused(
                    "django_unsafe_migrations is refuse: pip could not install django-migration-linter, which tells. "
                    "Make the package index reachable from this host, or set it to allow. "
                    f"It said:\n{last_lines(result.stdout)}"
                )
            shutil.rmtree(own, ignore_errors=True)
            os.replace(draft, path)
        return path
