"""The pages in a browser: reached by clicking, readable by all, asking nothing of the world outside.

With ``SIMTRAIL_SCREENSHOTS=FOLDER`` the pictures in the documentation are taken anew: `make screenshots`.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from audit.roles import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")

SWITCHES = (
    "--no-sandbox",  # Of its own: CI runs as root.
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

LOOKS = {"light": (1240, "light"), "dark": (1240, "dark"), "phone": (390, "light")}
"""How each page is looked at: the width of the window, and the scheme that the reader prefers."""

PICTURE_HEIGHT = 1400
"""A picture shows so much of a long page."""

SERIOUS = frozenset({"serious", "critical"})


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser without a window. While it is there, its driver's loop runs in this thread: other modules have their own."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - slow to import, and not without a browser

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield browser
        browser.close()


@dataclass
class Reader:
    """Somebody at a browser, and all that the browser asked for and complained about."""

    page: Page
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def path(self) -> str:
        """Where the browser is."""
        return urlsplit(self.page.url).path


@pytest.fixture
def reader(chromium: Browser, published: str, password: str) -> Iterator[Callable[[Role], Reader]]:
    """Somebody of a role, who has logged in and is on the front page."""
    contexts = []

    def begin(role: Role) -> Reader:
        context = chromium.new_context(viewport={"width": 1240, "height": 900}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        made = Reader(page, published)
        page.on("request", lambda request: made.asked.append(request.url))
        page.on(
            "console", lambda said: made.complaints.append(said.text) if said.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: made.complaints.append(str(error)))
        page.goto(f"{published}/")
        assert made.path() == "/-/login"
        page.get_by_label("User").fill(role.value)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{published}/")
        return made

    yield begin
    for context in contexts:
        context.close()


def test_from_the_front_to_a_bill_by_clicking(reader: Callable[[Role], Reader]) -> None:
    """From the front page to a card's timeline, to the delivery that blocked it, to the bill's PDF: clicks alone.

    No request leaves loopback, and the browser has nothing to complain about.
    """
    me = reader(Role.AUDITOR)
    page = me.page

    page.get_by_role("link", name="blocked", exact=True).first.click()
    assert me.path() == "/audit/sim_status"
    restricted = page.locator("tr.of-account", has_text="unpaid bill 6")
    # The month ends today, and some cards were first heard of after the bill that blocked them all.
    for card in range(page.locator("td.col-sim a").count()):
        page.locator("td.col-sim a").nth(card).click()
        assert me.path().startswith("/sim/")
        assert page.get_by_role("img", name=re.compile("Timeline of the SIM card")).is_visible()
        if restricted.count():
            break
        page.go_back()
    restricted.locator("td").first.get_by_role("link").click()
    assert me.path().startswith("/delivery/")
    assert page.get_by_role("heading", name=re.compile(r"Delivery \d+")).is_visible()
    with page.expect_response(re.compile("/file/")) as given:
        page.get_by_role("link", name=re.compile(r"\.pdf$")).first.click()

    assert given.value.status == 200
    assert given.value.headers["content-type"] == "application/pdf"
    assert given.value.headers["content-disposition"].startswith("inline;")
    # The browser's own viewer is a page of the browser's, and all else is ours.
    asked = [url for url in me.asked if not url.startswith(("chrome-extension:", "data:"))]
    assert {urlsplit(url).hostname for url in asked} == {"127.0.0.1"}
    assert me.complaints == []


def paths(me: Reader) -> dict[str, str]:
    """A page of each kind, as links lead there from the front and from each other."""
    page = me.page
    found = {"front": "/"}
    found["card"] = hrefs(page, "/audit/sim_status?effective_status=blocked", "td.col-sim a")[0]
    found["job"] = next(iter(hrefs(page, "/audit/jobs?late_callbacks__gt=0&_sort_desc=callbacks", "td.col-job a")))
    found["bill"] = hrefs(page, "/audit/bills?stage=unpaid_6&_sort=issued_on", "td.col-bill a")[0]
    found["delivery"] = hrefs(page, found["job"], "td a[href^='/delivery/']")[-1]
    return found


def hrefs(page: Page, path: str, selector: str) -> list[str]:
    page.goto(path if path.startswith("http") else f"{origin(page)}{path}")
    return [str(link.get_attribute("href")) for link in page.locator(selector).all()]


def origin(page: Page) -> str:
    parts = urlsplit(page.url)
    return f"{parts.scheme}://{parts.netloc}"


DATASETTES = {
    "tables": "/audit",
    "table": "/audit/sim_status",
    "query": "/audit/timeline_of_sim",
}


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_can_be_read_by_all(reader: Callable[[Role], Reader], look: str) -> None:
    """axe-core finds nothing serious on our pages, in either scheme and on a phone; none is wider than its window."""
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped] # noqa: PLC0415

    me = reader(Role.PRIVACY)
    width, scheme = LOOKS[look]
    found = paths(me)
    me.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    me.page.set_viewport_size({"width": width, "height": 900})
    folder = os.environ.get("SIMTRAIL_SCREENSHOTS")
    serious: list[str] = []
    for name, path in {**found, "export": "/-/export", **DATASETTES}.items():
        answer = me.page.goto(f"{me.url}{path}")
        assert answer is not None
        assert answer.status == 200, path
        wider = me.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, f"{name} is {wider} pixels wider than the window"
        problems = Axe().run(me.page).response["violations"]
        serious += [
            f"{name}: {each['id']}: {node['html'][:160]}"
            for each in problems
            if each["impact"] in SERIOUS
            for node in each["nodes"]
        ]
        if folder and name not in DATASETTES:
            picture(me.page, Path(folder) / f"{name}-{look}.png")
    assert serious == []
    assert me.complaints == []


def picture(page: Page, file: Path) -> None:
    """A picture of the page, from its top."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tall = int(page.evaluate("document.documentElement.scrollHeight"))
    size = page.viewport_size
    assert size is not None
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(tall, PICTURE_HEIGHT)}
    page.screenshot(path=file, full_page=True, clip=clip)  # type: ignore[arg-type]


def test_without_a_script_the_pages_say_the_same(chromium: Browser, published: str, password: str) -> None:
    """A browser that runs no script logs in, and reads the same words and charts."""
    texts = []
    for runs in (True, False):
        context = chromium.new_context(java_script_enabled=runs)
        page = context.new_page()
        page.goto(f"{published}/-/login")
        page.get_by_label("User").fill(Role.AUDITOR.value)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{published}/")
        texts.append((page.locator("main").inner_text(), page.locator("svg.chart").count()))
        context.close()

    assert texts[0] == texts[1]
    assert texts[0][1] == 2


def test_a_page_prints(reader: Callable[[Role], Reader]) -> None:
    """On paper there is no navigation, and nothing is cut off by a scrolling box."""
    me = reader(Role.PRIVACY)
    me.page.goto(f"{me.url}{paths(me)['delivery']}")
    me.page.emulate_media(media="print")

    assert not me.page.get_by_role("navigation", name="Pages").is_visible()
    assert me.page.locator("pre[aria-label=Body]").evaluate("box => box.scrollHeight <= box.clientHeight + 1")
    assert me.page.pdf().startswith(b"%PDF-")
