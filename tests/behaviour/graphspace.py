"""The demonstration site as people use it: what the browser tests look at, and what they press."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from playwright.sync_api import BrowserContext, Locator, Page, expect

LIST = "/notifications/"
PREFERENCES = "/notifications/preferences/"
MOST_TABS = 40  # presses of the Tab key until what is looked for must have the focus


def fresh(title: str) -> str:
    """Return a name that nothing has yet."""
    return f"{title} {uuid4().hex[:6]}"


class Tab:
    """One tab of a browser, with the site's bell and perhaps the list in it."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.bell = page.locator("[data-bell]")
        self.counter = page.locator("[data-bell-count]")
        self.status = page.locator("[data-bell-status]")
        self.rows = page.locator("[data-notifications] > li")
        self.sockets: list[str] = []
        page.on("websocket", lambda socket: self.sockets.append(socket.url))

    def open(self, path: str) -> Tab:
        """Load a page; whether it is still the same one later, `was_reloaded` tells."""
        self.page.goto(self.base + path)
        return self

    def listen(self, path: str = LIST) -> Tab:
        """Load a page, wait for its socket, and note from then on what the bell tells."""
        self.open(path)
        expect(self.bell).to_have_attribute("data-state", "live")
        self.page.evaluate(
            """() => {
              window.told = [];
              document.addEventListener("notification", (event) => window.told.push(event.detail.message));
            }"""
        )
        return self

    @property
    def told(self) -> list[str]:
        """What the bell has told since `listen`, in that order; an error if the page was loaded anew."""
        told: list[str] = self.page.evaluate("window.told")
        assert told is not None, "the page was loaded anew"
        return told

    @property
    def count(self) -> int:
        """The number at the bell."""
        return int(self.counter.text_content() or 0)

    def row(self, message: str) -> Locator:
        """Return the row that shows a message, be it among those like it."""
        return self.rows.filter(has_text=message)

    def listed(self, messages: Sequence[str]) -> list[str]:
        """Return those of the messages that the list has, from top to bottom, each as often as it stands there."""
        lines = self.rows.locator(":is(a, span:not([data-mark]))").all_text_contents()
        return [line for line in lines if line in messages]

    def expect_count(self, count: int) -> None:
        """Wait until the bell shows a number, which is nothing to look at where it is 0."""
        expect(self.counter).to_have_text(str(count))
        expect(self.counter).to_be_visible(visible=count > 0)

    def expect_news(self, message: str, count: int) -> None:
        """Wait until a message is told, counted and the first of the list, in the page that is open."""
        expect(self.status).to_have_text(message)
        self.expect_count(count)
        newest = self.rows.first
        expect(newest.locator(".notification-text > :is(a, span)").first).to_have_text(message)
        expect_unread(newest)
        assert self.told[-1] == message

    def press_tab_until(self, wanted: Locator) -> None:
        """Move the focus forwards with the keyboard."""
        for _press in range(MOST_TABS):
            self.page.keyboard.press("Tab")
            if wanted.evaluate("node => node === document.activeElement"):
                return
        raise AssertionError(f"the Tab key did not get to {wanted} in {MOST_TABS} presses")


def expect_unread(row: Locator) -> None:
    """Wait until a row is marked as unread, for the eye and for the ear, and can be marked as read."""
    expect(row).to_contain_class("unread")
    expect(row.locator("[data-mark]")).to_have_text("(unread)")
    expect(row.get_by_role("button", name="Mark as read")).to_be_visible()


def expect_read(row: Locator) -> None:
    """Wait until a row is marked as read."""
    expect(row).not_to_contain_class("unread")
    expect(row.locator("[data-mark]")).to_be_hidden()
    expect(row.get_by_role("button", name="Mark as read")).to_have_count(0)


class Person:
    """Somebody signed in, with one browser session and a tab in which things are done."""

    def __init__(self, name: str, context: BrowserContext, base: str) -> None:
        self.name, self.context, self.base = name, context, base
        self.desk = self.tab()
        self.page = self.desk.page

    def tab(self) -> Tab:
        """Open another tab of the same session."""
        return Tab(self.context.new_page(), self.base)

    def sign_in(self, password: str) -> None:
        """Fill in the form."""
        self.desk.open("/sign-in/")
        self.page.get_by_label("Username").fill(self.name)
        self.page.get_by_label("Password").fill(password)
        self.press("Sign in")
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    def press(self, button: str) -> None:
        """Press a button by its whole name."""
        self.page.get_by_role("button", name=button, exact=True).click()

    def make_graph(self, name: str) -> str:
        """Make a graph; return its path."""
        self.desk.open("/graphs/new/")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Nodes").fill("a\nb")
        self.page.get_by_label("Edges").fill("a - b")
        self.press("Save")
        expect(self.page.get_by_role("heading", level=1)).to_have_text(name)
        return self.page.url.removeprefix(self.base)

    def edit(self, graph: str) -> None:
        """Change a graph."""
        self.desk.open(f"{graph}edit/")
        self.page.get_by_label("Edges").fill("")
        self.press("Save")
        self.page.wait_for_url(self.base + graph)

    def share(self, graph: str, group: str) -> None:
        """Share a graph with a group."""
        self.desk.open(graph)
        self.page.get_by_label("Group").select_option(group)
        self.press("Share")
        expect(self.page.locator(".messages")).to_contain_text(f"“{group}” can see this graph now.")

    def unshare(self, graph: str, group: str) -> None:
        """Take a graph back from a group."""
        self.desk.open(graph)
        self.press(f"Unshare from {group}")
        expect(self.page.locator(".messages")).to_contain_text(f"“{group}” no longer sees")

    def watch(self, graph: str) -> None:
        """Watch somebody else's graph."""
        self.desk.open(graph)
        self.press("Watch")
        expect(self.page.get_by_role("button", name="Stop watching")).to_be_visible()

    def make_group(self, name: str) -> None:
        """Make a group; its page is open then."""
        self.desk.open("/groups/")
        self.page.get_by_label("Name").fill(name)
        self.press("Make the group")
        expect(self.page.get_by_role("heading", level=1)).to_have_text(name)

    def add_member(self, name: str) -> None:
        """Take somebody into the group whose page is open."""
        self.page.get_by_label("Name").fill(name)
        self.press("Add")
        expect(self.page.locator(".messages")).to_contain_text(f"{name} is a member now.")

    def choose(self, kind: str, delivery: str) -> str:
        """Say how one wants to hear of a kind; return how it was."""
        self.desk.open(PREFERENCES)
        choices = self.page.get_by_role("group", name=kind)
        before = choices.locator("label:has(:checked)").inner_text().strip()
        choices.get_by_label(delivery, exact=True).check()
        self.press("Save")
        expect(self.page.locator(".messages")).to_contain_text("Saved.")
        return before

    def read_all(self) -> None:
        """Mark everything as read."""
        self.desk.open(LIST)
        self.press("Mark all as read")
        self.desk.expect_count(0)
