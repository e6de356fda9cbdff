"""The report of `make verify` in a browser: it fits a telephone, asks the network for nothing, and can be read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.report import page as report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium here; `make setup` for all tests installs it"
)
# The least contrast of text (WCAG 2.2, 1.4.3).
CONTRAST = 4.5
READ = """
() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const wash = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const svg = element instanceof SVGElement;
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || element.tagName === 'title') continue;
    const style = getComputedStyle(element);
    const box = svg && element.parentElement.querySelector(':scope > rect');
    const behind = box && element.parentElement.classList.contains('box')
      ? parse(getComputedStyle(box).fill) : wash(element.closest('svg')?.parentElement || element);
    const [a, b] = [light(parse(svg ? style.fill : style.color)), light(behind)].sort((x, y) => y - x);
    found.push([element.textContent.trim().slice(0, 40), (a + 0.05) / (b + 0.05), parseFloat(style.fontSize)]);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    text = (Path(__file__).parent / "verify_record.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    # a host of another kind: not reached, with a name that has no place to break at
    host = json.loads(json.dumps(found["hosts"][0]))
    blank: dict[str, Any] = {"listeners": [], "units": [], "connections": {}, "drift": None}
    found["hosts"].append(host | blank | {"name": "x" * 70, "reached": False, "heard": "y" * 300})
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def shown(
    request: pytest.FixtureRequest, browser: Browser, recorded: dict[str, Any], tmp_path: Path
) -> Iterator[Page]:
    """The page as a file, at a width and in a scheme, with all that it asks for in `asked`."""
    width, scheme = request.param
    _, path = report.write(recorded, tmp_path)
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri(), wait_until="networkidle")
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    yield page
    context.close()


def test_nothing_is_wider_than_the_window(shown: Page) -> None:
    size = shown.viewport_size
    assert size
    assert shown.evaluate("document.documentElement.scrollWidth") <= size["width"]
    wide = shown.evaluate(
        "() => [...document.querySelectorAll('body *')].filter(one => !one.closest('svg') && one.tagName !== 'PRE'"
        " && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_all_text_can_be_read(shown: Page) -> None:
    read = shown.evaluate(READ)
    assert len(read) > 150
    assert [text for text, contrast, _ in read if contrast < CONTRAST] == []
    assert [text for text, _, size in read if size < 12] == []


def test_one_drawing_of_each_host_is_shown(shown: Page) -> None:
    drawings = shown.locator("svg:visible")
    assert drawings.count() == 2
    widths = [drawings.nth(number).bounding_box() for number in range(2)]
    assert all(box and box["width"] > 300 for box in widths)
    # what stands in a box stays in it
    out = shown.evaluate(
        "() => [...document.querySelectorAll('svg .box')].filter(g => g.getClientRects().length).flatMap(g =>"
        " [...g.querySelectorAll('text')].filter(t => t.getBBox().x + t.getBBox().width >"
        " g.querySelector('rect').getBBox().x + g.querySelector('rect').getBBox().width - 4).map(t => t.textContent))"
    )
    assert out == []


def test_every_check_is_in_a_table_with_its_result_in_words(
    shown: Page, recorded: dict[str, Any]
) -> None:
    rows = shown.locator("#checks tbody tr").all_inner_texts()
    assert len(rows) == len(recorded["checks"])
    for check in recorded["checks"]:
        word = report.WORDS[check["result"]]
        assert [row for row in rows if check["says"] in row and word in row], check["says"]


def test_it_has_landmarks_one_heading_and_headed_tables(shown: Page) -> None:
    assert shown.locator("header, main, nav, footer").count() == 4
    assert shown.locator("h1").count() == 1
    assert shown.get_by_role("status").count() == 1
    assert shown.locator("table:not(:has(th[scope=col]))").count() == 0
    levels = shown.evaluate(
        "() => [...document.querySelectorAll('h1,h2,h3,h4')].map(one => +one.tagName[1])"
    )
    assert all(after - before <= 1 for before, after in pairwise(levels))
