"""A guide's commands, and a terminal in which they are typed as they stand there.

In a guide an indented line that begins with `$ ` is typed; the indented lines up to the next one are what it printed.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TYPED = "$ "
SHORTENED = "…"  # what a guide puts in the place of more that was printed
# What is another each time: numbers, releases and fingerprints.
VARIES = {r"\b[0-9a-f]{12}\b": "ID", r"SHA256:[\w+/…]+": "KEY", r"\d+": "0", r"\s+": " "}
PROMPT = re.compile(r"(\([\w.-]+\) )?typed here> $")  # the shell's, also in a virtual environment
# A line that is written over with the next text, as that of what a run is at; colours, the returns of a terminal.
CONTROL = re.compile(r"[^\n]*\r\x1b\[K|\x1b[\[(][0-9;?]*[A-Za-z]|\r")


def commands(guide: Path) -> list[tuple[str, list[str]]]:
    """Return what a guide tells to type, in its order, each with the lines that it shows of the output."""
    found: list[tuple[str, list[str]]] = []
    shown: list[str] = []
    for line in guide.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("    "):
            shown = []  # a paragraph ends what was printed
        elif line[4:].startswith(TYPED):
            shown = []
            found.append((line[4:].removeprefix(TYPED), shown))
        else:
            shown.append(line[4:])
    return found


def plain(text: str) -> str:
    """Return a text without what is another each time."""
    for pattern, word in VARIES.items():
        text = re.sub(pattern, word, text)
    return text.strip()


@dataclass
class Typed:
    """What came of one command."""

    command: str
    code: int
    output: str
    seconds: float

    def lacks(self, shown: list[str]) -> list[str]:
        """Return what a guide shows of the output, and was not printed."""
        printed = plain(self.output)
        parts = [part for line in shown for part in line.split(SHORTENED)]
        return [part for part in parts if plain(part) not in printed]


@dataclass
class Terminal:
    """A shell on a terminal of its own, with somebody who answers what its programs ask."""

    folder: Path
    environment: Mapping[str, str]
    # what a program asks, as a regular expression of its last words, and the answer
    answers: dict[str, str] = field(default_factory=dict)
    process: int = 0
    file: int = -1

    def __enter__(self) -> Terminal:
        """Start the shell."""
        shell = {"TERM": "xterm", "PAGER": "cat", "PS1": "typed here> ", "PS2": "", "HISTFILE": ""}
        self.process, self.file = pty.fork()
        if not self.process:
            os.chdir(self.folder)
            words = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
            os.execvpe(words[0], words, {**self.environment, **shell})  # noqa: S606 - it is the shell
        self._read(60)
        return self

    def __exit__(self, *_: object) -> None:
        """End it and what runs in it."""
        os.close(self.file)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)

    def type(self, command: str, seconds: float = 600) -> Typed:
        """Type one line, answer what is asked, and return what was printed when the shell asks for the next line."""
        began = time.monotonic()
        self._write(command)
        output = self._read(seconds)
        took = time.monotonic() - began
        self._write("echo $?")
        code = self._read(10).split()[-1]
        return Typed(command, int(code), output.partition("\n")[2], took)

    def _write(self, text: str) -> None:
        os.write(self.file, f"{text}\n".encode())

    def _read(self, seconds: float) -> str:
        """Return what comes up to the shell's prompt."""
        end, output, answered = time.monotonic() + seconds, "", 0
        while not (ended := PROMPT.search(output)):
            left = end - time.monotonic()
            assert left > 0, f"still at work after {seconds} s:\n{clean(output)[-3000:]}"
            if select.select([self.file], [], [], min(left, 0.2))[0]:
                output += os.read(self.file, 65536).decode(errors="replace")
                continue
            # Ansible forgets what was typed before it had put the terminal into this mode
            if termios.tcgetattr(self.file)[3] & termios.ICANON:
                continue
            asked = clean(output[answered:])
            for question, answer in self.answers.items():
                if re.search(question, asked):
                    answered = len(output)
                    self._write(answer)
                    break
        return clean(output[: ended.start()])


def clean(text: str) -> str:
    """Return what is left to read on a terminal."""
    return CONTROL.sub("", text)
