"""What a run says to a person: changes, failures in the terms of the site's entry, and what to do next."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.callback.switchboard import in_terms_of_sites
from tests.onboarding.guide import Terminal

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "apache_wsgi_threads is 'many': it is no whole number. Write one. (site lab)",
            "sites.lab.pages.threads is 'many': it is no whole number. Write one.",
        ),
        (
            "apache_websocket_timeout of site lab is 10: more than twice apache_websocket_ping_interval. Set it to 41.",
            "sites.lab.websockets.timeout is 10: more than twice apache_websocket_ping_interval. Set it to 41.",
        ),
        (
            "daphne_port (site lab) is 9: daphne_port (site shop) names the same port.",
            "sites.lab.websockets.port is 9: sites.shop.websockets.port names the same port.",
        ),
        (
            "django_service_ports.relay (site lab) is 80: apache_http_port names the same port.",
            "sites.lab.services.relay is 80: apache_http_port names the same port.",
        ),
        (
            "Site lab: django_wsgi_module is lab.web: importing app from it fails.",
            "Site lab: sites.lab.wsgi is lab.web: importing app from it fails.",
        ),
        # a site that has no entry, and a variable that no entry has
        ("daphne_port (site other) is 9: why.", "daphne_port (site other) is 9: why."),
        ("kafka_port is 9: why.", "kafka_port is 9: why."),
        ("apache_http_port is 9: why. (site lab)", "apache_http_port is 9: why. (site lab)"),
    ],
)
def test_a_message_names_the_key_that_the_user_wrote(text: str, said: str) -> None:
    assert in_terms_of_sites(text, ["lab", "shop"]) == said


def test_the_item_of_a_loop_tells_the_site_where_the_message_does_not() -> None:
    text = "django_directory is /x: the control node has no such directory."
    assert in_terms_of_sites(text, ["lab"], "lab").startswith("sites.lab.source.directory is /x")
    assert in_terms_of_sites(text, ["lab"], "a file") == text


PLAYBOOK = """
- name: A play of a test
  hosts: all
  gather_facts: false
  connection: local
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks:
    - name: Nothing changes here
      ansible.builtin.command: "true"
      changed_when: false # the test's task that changes nothing
    - name: Two of three change
      ansible.builtin.command: "true"
      loop: [first, second, third]
      changed_when: item != 'second'
    - name: A secret
      ansible.builtin.command: "true"
      loop: [hush]
      no_log: true
    - name: Tell
      ansible.builtin.debug:
        msg: so many sockets
    - name: Tell of a site
      ansible.builtin.debug:
        msg: [lab, django_check_fail_level is WARNING.]
      loop: [lab]
    - name: A file
      ansible.builtin.copy:
        content: a new line
        dest: "{{ folder }}/file"
    - name: Restart
      host_units:
        restarted: [lab.service]
      check_mode: true
    - name: Refuse
      ansible.builtin.assert:
        that: good
        fail_msg: daphne_port (site lab) is 9. Choose another.
        quiet: true
"""
INVENTORY = "all: {hosts: {one: {sites: {lab: {domain: lab.example.org}}}}}"


def run(folder: Path, *flags: str, good: bool = True) -> tuple[int, str]:
    (folder / "play.yml").write_text(PLAYBOOK)
    (folder / "hosts.yml").write_text(INVENTORY)
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(folder / "hosts.yml"),
    ]
    extra = ["-e", f"folder={folder}", "-e", f'{{"good": {str(good).lower()}}}']
    done = subprocess.run(
        [*command, str(folder / "play.yml"), *extra, *flags],
        cwd=ROOT,
        env=env | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_run_shows_its_changes_and_sums_up(tmp_path: Path) -> None:
    code, said = run(tmp_path)
    assert code == 0, said
    assert said.count("A play of a test") == 1
    assert "Nothing changes here" not in said
    assert re.search(r"^ +0:\d\d  one: Two of three change: first, third$", said, re.M)
    assert "one: so many sockets" in said
    assert "one: lab\n        sites.lab.checks.fail_level is WARNING." in said
    assert "hush" not in said
    assert "+a new line" not in said
    assert "one: 8 tasks, 4 changed, 0 failed" in said
    assert "restarted: lab.service" in said
    assert f"next: make verify INVENTORY={tmp_path}/hosts.yml" in said


def test_a_dry_run_shows_the_differences(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--check", "--diff")
    assert code == 0, said
    assert re.search(r"^ +0:\d\d  A file\n(.*\n)*\+a new line", said, re.M)
    assert "2 would change" in said
    assert "next: the same without --check" in said


def test_a_failure_names_the_key_and_what_to_do(tmp_path: Path) -> None:
    code, said = run(tmp_path, good=False)
    assert code == 2
    assert re.search(r"^ +0:\d\d  FAILED one: Refuse$", said, re.M)
    assert "        sites.lab.websockets.port is 9. Choose another." in said
    assert "1 failed" in said
    assert "next: correct what is named above and run it again" in said


def test_more_is_said_when_asked(tmp_path: Path) -> None:
    _, said = run(tmp_path, "-v")
    assert "TASK [Nothing changes here]" in said
    assert "PLAY RECAP" in said
    assert "hush" not in said


ASKS = """
- name: A play of nobody
  hosts: nobody
- name: A play that asks
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Ask
      ansible.builtin.pause:
        prompt: How many?
      register: asked
    - name: Tell
      ansible.builtin.debug:
        msg: "{{ asked.user_input }} it is"
"""


def test_a_question_stands_on_a_line_of_its_own_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(ASKS)
    (tmp_path / "hosts.yml").write_text("all: {children: {nobody: }}")
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    env |= {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    program = Path(sys.executable).with_name("ansible-playbook")
    with Terminal(tmp_path, env, {r"How many\?": "seven"}) as terminal:
        typed = terminal.type(f"{program} -i hosts.yml play.yml", 60)
    assert typed.code == 0, typed.output
    assert re.search(r"^\[Ask\]\nHow many\?", typed.output, re.M), typed.output
    assert "localhost: seven it is" in typed.output
    assert "no hosts matched" not in typed.output
