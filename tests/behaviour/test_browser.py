"""People in real browsers: what one does shows at the bell of whom it concerns, without a reload.

The browser is Chromium, and everything behind it is the host's: Apache, mod_wsgi, Daphne, Kafka. What a
page is told is tested frame by frame in test_notifications.py; here it is what somebody sees and can do.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, ViewportSize, expect, sync_playwright
from testinfra.host import Host

from tests.behaviour.graphspace import LIST, Person, expect_read, expect_unread, fresh
from tests.behaviour.sites import Site
from tests.behaviour.tcprelay import Relay

pytestmark = [
    pytest.mark.app,
    pytest.mark.disruptive,
]  # it signs in and writes to the site's database

LATEST = 15_000  # milliseconds; expect() waits so long at most
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
GROUP = "Cell biology"  # ada's and grace's
EVERYBODY = "Everybody"  # with linus
SIZE: ViewportSize = {
    "width": 1000,
    "height": 600,
}  # of a page, and of the picture in the documentation


@pytest.fixture(scope="module")
def site(host: Host, deployed: dict[str, Any]) -> dict[str, Any]:
    sites = {site["name"]: site for site in deployed["apache"].get("sites", [])}
    if "graphspace" not in sites or not deployed["kafka"]:
        pytest.skip("the demonstration site and Kafka are not both on this host")
    return sites["graphspace"]


@pytest.fixture(scope="module")
def port(deployed: dict[str, Any]) -> int:
    return int(deployed["apache"]["http_port"])


@pytest.fixture(scope="module")
def base(site: dict[str, Any], port: int) -> str:
    return f"http://{site['server_name']}" + ("" if port == 80 else f":{port}")


@pytest.fixture(scope="module")
def password(host: Host, site: dict[str, Any]) -> str:
    secrets = host.file("/etc/switchboard/graphspace/secrets.env").content_string
    found = re.search(r'SEED_PASSWORD="(.*)"', secrets)
    if not found:
        pytest.skip("the site was not seeded with test people")
    return found.group(1)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        expect.set_options(timeout=LATEST)
        yield started


@contextmanager
def chromium(playwright: Playwright, name: str, address: str) -> Iterator[Browser]:
    """Start a browser that finds the site's name at an address, or at `address:port`."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "no Chromium on the control node: install Debian's package chromium"
    rules = f"--host-resolver-rules=MAP {name} {address}"
    started = playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS, rules])
    yield started
    started.close()


@pytest.fixture(scope="module")
def browser(playwright: Playwright, site: dict[str, Any], address: str) -> Iterator[Browser]:
    with chromium(playwright, site["server_name"], address) as started:
        yield started


Visit = Callable[..., Person]


@pytest.fixture(scope="module")
def sessions() -> dict[str, Any]:
    """The cookies of those who signed in already: it costs the host a second of hashing each time."""
    return {}


@pytest.fixture
def visit(browser: Browser, base: str, password: str, sessions: dict[str, Any]) -> Iterator[Visit]:
    """Return what gives a person a browser session: the one of the tests before, or a `new` one."""
    opened = []

    def start(name: str, within: Browser = browser, new: bool = False, **options: Any) -> Person:
        state = None if new else sessions.get(name)
        context = within.new_context(viewport=SIZE, locale="en-GB", storage_state=state, **options)
        opened.append(context)
        person = Person(name, context, base)
        if state is None:
            person.sign_in(password)
        if not new:
            sessions.setdefault(name, context.storage_state())
        return person

    yield start
    for context in opened:
        context.close()


def test_two_browsers_in_a_room_hear_each_other(
    playwright: Playwright, chat: Site, address: str
) -> None:
    """Their sockets are held by two processes, and Valkey carries what they say (the project tests/projects/chat)."""
    url = f"{chat.scheme}://{chat.host}/rooms/{fresh('room').replace(' ', '-')}/"
    with (
        chromium(playwright, chat.host, address) as one,
        chromium(playwright, chat.host, address) as other,
    ):
        ada, grace = one.new_page(), other.new_page()
        ada.goto(url)
        status = re.compile(r"held by \d+")
        expect(ada.get_by_role("status")).to_have_text(status)
        held = ada.get_by_role("status").inner_text()
        for _ in range(40):  # each has an even chance to come to the other process
            grace.goto(url)
            expect(grace.get_by_role("status")).to_have_text(status)
            if grace.get_by_role("status").inner_text() != held:
                break
        assert grace.get_by_role("status").inner_text() != held
        said = [page.get_by_role("listitem") for page in (ada, grace)]
        words = ["Is anybody here?", "I am, on the other one."]
        for number, page in enumerate((ada, grace)):
            page.get_by_label("Say").fill(words[number])
            page.get_by_role("button", name="Send").click()
            for heard in said:
                expect(heard).to_have_text(words[: number + 1])


def test_nobody_sees_a_page_without_signing_in(browser: Browser, base: str) -> None:
    with browser.new_page() as page:
        for path in ("/", LIST):
            page.goto(base + path)
            assert "/sign-in/" in page.url


def test_all_three_kinds_arrive_in_an_open_page(visit: Visit) -> None:
    ada, grace, linus = visit("ada"), visit("grace"), visit("linus")
    plate = fresh("plate")
    pathway, readers = f"Wnt signalling, {plate}", f"Readers of {plate}"
    parser, kernel = fresh("Parser tables, commit"), fresh("Call graph, commit")
    linus.read_all()
    page = linus.tab().listen()

    shown = ada.make_graph(pathway)
    ada.share(shown, EVERYBODY)
    page.expect_news(f"ada shared the graph “{pathway}” with the group “{EVERYBODY}”", 1)

    ada.make_group(readers)
    ada.add_member("linus")
    page.expect_news(f"ada added linus to the group “{readers}”", 2)

    ada.unshare(shown, EVERYBODY)
    page.expect_news(f"ada no longer shares the graph “{pathway}” with the group “{EVERYBODY}”", 3)

    tables = grace.make_graph(parser)
    grace.share(tables, EVERYBODY)
    page.expect_news(f"grace shared the graph “{parser}” with the group “{EVERYBODY}”", 4)

    linus.watch(tables)
    grace.edit(tables)
    page.expect_news(f"grace updated the graph “{parser}”, which you watch", 5)

    linus.make_graph(kernel)  # in another tab of the same person
    page.expect_news(f"linus created your graph “{kernel}”", 6)
    expect(page.page).to_have_title(re.compile(r"^\(6\) Notifications"))

    assert len(page.told) == 6, page.told
    if folder := os.environ.get("SWITCHBOARD_SCREENSHOTS"):
        page.page.screenshot(path=str(Path(folder) / "bell.png"), animations="disabled")


@pytest.mark.parametrize("way", ["closed", "silent"])
def test_what_a_cut_kept_away_is_shown_once_and_in_order(
    way: str, playwright: Playwright, site: dict[str, Any], address: str, port: int, visit: Visit
) -> None:
    relay = Relay(address, port)
    with chromium(playwright, site["server_name"], f"127.0.0.1:{relay.port}") as far_away:
        ada, grace = visit("ada"), visit("grace", within=far_away)
        first, second = fresh("Cell cycle"), fresh("Apoptosis")
        watched = ada.make_graph(first)
        ada.share(watched, GROUP)
        grace.watch(watched)
        page = grace.tab().listen()
        before = page.count

        relay.cut(way)
        if way == "closed":
            expect(page.bell).to_have_attribute("data-state", "away")
        else:
            grace.context.set_offline(True)  # the browser is told; its open socket is not closed
        other = ada.make_graph(second)
        ada.edit(watched)
        ada.share(other, GROUP)
        ada.unshare(other, GROUP)
        ada.edit(watched)
        assert (page.count, page.told) == (before, [])

        relay.restore()
        grace.context.set_offline(False)
        # it pauses for up to 30 s
        expect(page.bell).to_have_attribute("data-state", "live", timeout=60_000)
        page.expect_count(before + 4)
        updated = f"ada updated the graph “{first}”, which you watch"
        shared = f"ada shared the graph “{second}” with the group “{GROUP}”"
        unshared = f"ada no longer shares the graph “{second}” with the group “{GROUP}”"
        assert page.told == [updated, shared, unshared, updated]
        # The newest row is at the top, and what is like it is under it.
        listed = [updated, updated, unshared, shared]
        assert page.listed(listed) == listed
        fresh_page = visit("grace").tab().open(LIST)
        assert fresh_page.listed(listed) == listed
        assert fresh_page.count == before + 4

        # The connection is whole again: the next one comes by itself.
        ada.unshare(watched, GROUP)
        page.expect_news(
            f"ada no longer shares the graph “{first}” with the group “{GROUP}”", before + 5
        )
    relay.close()


def test_two_tabs_agree_on_what_is_read(visit: Visit) -> None:
    ada, grace = visit("ada"), visit("grace")
    grace.read_all()
    one, other = grace.tab().listen(), grace.tab().listen()
    name = fresh("Ribosome")
    graph = ada.make_graph(name)
    shared = f"ada shared the graph “{name}” with the group “{GROUP}”"
    updated = f"ada updated the graph “{name}”, which you watch"
    ada.share(graph, GROUP)
    grace.watch(graph)
    ada.edit(graph)
    for tab in (one, other):
        tab.expect_news(updated, 2)
        expect_unread(tab.row(shared))

    one.row(shared).get_by_role("button", name="Mark as read").click()
    for tab in (one, other):
        tab.expect_count(1)
        expect_read(tab.row(shared))
        expect_unread(tab.row(updated))

    one.page.get_by_role("button", name="Mark all as read").click()
    for tab in (one, other):
        tab.expect_count(0)
        expect_read(tab.row(updated))
        expect(tab.page.locator(".notification.unread")).to_have_count(0)
    assert other.told == [shared, updated]


def test_sign_out_ends_the_sockets_of_the_other_tabs(visit: Visit, password: str) -> None:
    ada, grace, elsewhere = visit("ada"), visit("grace", new=True), visit("grace")
    name = fresh("Chloroplast")
    graph = ada.make_graph(name)
    control = elsewhere.tab().listen()
    left = grace.tab()
    left.page.clock.install()
    left.listen()
    before = left.count

    grace.desk.open(LIST)
    grace.press("Sign out")
    expect(left.bell).to_have_attribute("data-state", "over")
    expect(left.status).to_have_text("You are signed out.")

    ada.share(graph, GROUP)
    control.expect_news(f"ada shared the graph “{name}” with the group “{GROUP}”", before + 1)
    # Neither time nor a network that returns brings the socket back.
    left.page.clock.fast_forward(600_000)
    for gone in (True, False):
        grace.context.set_offline(gone)
    # Nor does somebody who signs in there, for whom this page is not.
    Person("ada", grace.context, grace.base).sign_in(password)
    expect(left.bell).to_have_attribute("data-state", "over")
    expect(left.status).to_have_text("You are signed out.")
    assert len(left.sockets) == 1, left.sockets
    assert (left.count, left.told, left.row(name).count()) == (before, [], 0)


def test_a_page_never_goes_on_as_somebody_elses(visit: Visit, password: str) -> None:
    grace = visit("grace", new=True)
    left = grace.tab().listen()
    before = left.count
    grace.context.clear_cookies()  # her session itself lasts, so her socket is not closed
    Person("ada", grace.context, grace.base).sign_in(password)
    expect(left.bell).to_have_attribute("data-state", "live")
    for gone in (True, False):
        grace.context.set_offline(gone)
    expect(left.bell).to_have_attribute("data-state", "over")
    assert len(left.sockets) == 2, left.sockets
    assert (left.count, left.told) == (before, [])


def test_the_list_works_without_javascript(visit: Visit) -> None:
    ada = visit("ada")
    grace = visit("grace", new=True, java_script_enabled=False)
    grace.read_all()
    name = fresh("Mitochondrion")
    graph = ada.make_graph(name)
    ada.share(graph, GROUP)
    grace.watch(graph)
    ada.edit(graph)
    shared = f"ada shared the graph “{name}” with the group “{GROUP}”"
    updated = f"ada updated the graph “{name}”, which you watch"

    tab = grace.desk.open("/")
    tab.expect_count(2)
    tab.bell.click()
    tab.page.wait_for_url(f"**{LIST}")
    assert tab.listed([updated, shared]) == [updated, shared]
    tab.row(shared).get_by_role("button", name="Mark as read").click()
    tab.expect_count(1)
    expect_read(tab.row(shared))
    expect_unread(tab.row(updated))
    grace.press("Mark all as read")
    tab.expect_count(0)
    expect_read(tab.row(updated))


def test_the_keyboard_alone_will_do(visit: Visit) -> None:
    ada, grace = visit("ada"), visit("grace")
    grace.read_all()
    name = fresh("Centrosome")
    graph = ada.make_graph(name)
    ada.share(graph, GROUP)

    tab = grace.desk.open("/")
    tab.expect_count(1)
    tab.press_tab_until(tab.bell)
    assert tab.bell.evaluate("bell => getComputedStyle(bell).outlineStyle") == "solid"
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url(f"**{LIST}")
    row = tab.row(name)
    tab.press_tab_until(row.get_by_role("button", name="Mark as read"))
    tab.page.keyboard.press("Enter")
    tab.expect_count(0)
    expect_read(row)
    tab.press_tab_until(row.get_by_role("link").first)
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text(name)


def test_a_kind_that_is_switched_off_is_not_told(visit: Visit) -> None:
    ada, grace = visit("ada"), visit("grace")
    first, second = fresh("Kinesin"), fresh("Dynein")
    graph, other = ada.make_graph(first), ada.make_graph(second)
    ada.share(graph, GROUP)
    grace.watch(graph)
    page = grace.tab().listen()
    before = page.count
    chosen = grace.choose("My groups", "Not at all")
    try:
        ada.share(other, GROUP)
        ada.edit(graph)
        page.expect_news(f"ada updated the graph “{first}”, which you watch", before + 1)
    finally:
        grace.choose("My groups", chosen)
    assert len(page.told) == 1, page.told
    ada.unshare(other, GROUP)
    page.expect_news(
        f"ada no longer shares the graph “{second}” with the group “{GROUP}”", before + 2
    )
    assert page.row(f"ada shared the graph “{second}”").count() == 0
