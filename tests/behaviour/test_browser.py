"""Two people in two real browsers: what one shares makes the bell of the other count up, without a reload."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from testinfra.host import Host

pytestmark = [
    pytest.mark.app,
    pytest.mark.disruptive,
]  # it signs in and writes to the site's database

LATEST = 15_000  # milliseconds
# A browser that asks for nothing but the page: no updates, no background traffic.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def site(host: Host, deployed: dict[str, Any]) -> dict[str, Any]:
    sites = {site["name"]: site for site in deployed["apache"].get("sites", [])}
    if "graphspace" not in sites or not deployed["kafka"]:
        pytest.skip("the demonstration site and Kafka are not both on this host")
    return sites["graphspace"]


@pytest.fixture(scope="module")
def browser(site: dict[str, Any], address: str) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "no Chromium on the control node: install Debian's package chromium"
    name = site["server_name"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program,
            args=[*ARGUMENTS, f"--host-resolver-rules=MAP {name} {address}"],
        )
        yield chromium
        chromium.close()


def sign_in(browser: Browser, base: str, name: str, password: str) -> Page:
    page = browser.new_context().new_page()
    page.goto(f"{base}/sign-in/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    return page


def test_the_bell_counts_up_without_a_reload(
    host: Host, deployed: dict[str, Any], site: dict[str, Any], browser: Browser
) -> None:
    secrets = host.file("/etc/switchboard/graphspace/secrets.env").content_string
    password = re.search(r'SEED_PASSWORD="(.*)"', secrets)
    if not password:
        pytest.skip("the site was not seeded with test people")
    port = int(deployed["apache"]["http_port"])
    base = f"http://{site['server_name']}" + ("" if port == 80 else f":{port}")
    ada = sign_in(browser, base, "ada", password.group(1))
    with browser.new_context().new_page() as nobody:
        nobody.goto(f"{base}/")
        assert "/sign-in/" in nobody.url
    grace = sign_in(browser, base, "grace", password.group(1))
    grace.evaluate("window.notReloaded = true")
    before = int(grace.locator("[data-bell-count]").text_content() or 0)

    ada.goto(f"{base}/graphs/new/")
    name = f"shown {uuid.uuid4()}"
    ada.locator("[name=name]").fill(name)
    ada.locator("[name=nodes]").fill("a\nb")
    ada.locator("[name=edges]").fill("a - b")
    ada.locator("main form button").click()
    ada.get_by_label("Group").select_option("Cell biology")
    ada.get_by_role("button", name="Share", exact=True).click()

    bell = grace.locator("[data-bell-count]")
    expect(bell).to_have_text(str(before + 1), timeout=LATEST)
    expect(grace.locator("[data-bell-status]")).to_contain_text(name)
    assert grace.evaluate("window.notReloaded")
    if folder := os.environ.get("SWITCHBOARD_SCREENSHOTS"):
        grace.screenshot(path=str(Path(folder) / "bell.png"))
