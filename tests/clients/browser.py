"""Chromium, with the chat page in it as a person uses it: ask, read, stop, close the tab.

Playwright drives the Chromium that is installed. Not here: expectations (test_page.py, test_eventsource.py).
"""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, async_playwright
from playwright.async_api import TimeoutError as WaitedTooLong

from tests.clients.system import KEY
from tests.support.upstream import ask

CHROMIUM = shutil.which("chromium")
# After a broken connection an EventSource waits for 3 s (Chromium's choice); gateways and workers take time to start.
HEAL_S = 20.0
PAGE_S = 5.0
"""How long a page may take to do anything else."""

_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_SHOWN = """() => [...document.querySelectorAll("#turns > .answer:last-child > .words > *")]
  .map((block) => block.textContent).join("\\n")"""


@asynccontextmanager
async def running_chromium() -> AsyncIterator[Browser]:
    """Start a headless Chromium; it ends with the block, and with this process."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        await browser.close()


def script(**script: Any) -> str:
    """Return the question that makes the upstream do this; see tests/support/upstream."""
    text = ask(**script)["messages"][0]["content"]
    assert isinstance(text, str)
    return text


class Tab:
    """One tab with the chat page. `page` is playwright's."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.send = page.locator("#send")
        """Visible while no answer is to come."""
        self.stop = page.locator("#stop")
        """Visible while one is."""
        self.key_prompt = page.locator("#key-prompt")
        self.switch = page.locator("#switch")
        """Visible while another key waits for a decision."""
        self.answer = page.locator("#turns > .answer:last-child")

    async def ask(self, text: str) -> None:
        """Type it and send it, as soon as that can be done."""
        await self.page.locator("#prompt").fill(text)
        await self.send.click()

    async def shown(self) -> str:
        """Return the last answer's text, as it stands on the page."""
        text = await self.page.evaluate(_SHOWN)
        assert isinstance(text, str)
        return text

    async def kept(self) -> dict[str, Any]:
        """Return the last turn, as the browser keeps it."""
        turns = await self.turns()
        return turns[-1]

    async def turns(self) -> list[dict[str, Any]]:
        """Return the turns of the only conversation that the browser keeps."""
        (name,) = await self.page.evaluate(
            """() => Object.keys(localStorage).filter((name) => name.startsWith("tailrace.conversation."))"""
        )
        turns: list[dict[str, Any]] = json.loads(await self.page.evaluate("(name) => localStorage[name]", name))
        return turns

    async def until_shows(self, text: str, *, within_s: float = PAGE_S) -> None:
        """Wait until the last answer's text is this."""
        with suppress(WaitedTooLong):
            await self._until(f"(wanted) => ({_SHOWN})() === wanted", text, within_s)
        assert await self.shown() == text

    async def until_longer(self, length: int) -> str:
        """Wait until the last answer has more characters than these; its text."""
        await self._until(f"(length) => ({_SHOWN})().length > length", length, PAGE_S)
        return await self.shown()

    async def until_ended(self, *, within_s: float = PAGE_S) -> None:
        """Wait until no answer is to come."""
        await self.send.wait_for(timeout=within_s * 1000)

    @property
    def note(self) -> Locator:
        """Locate the note on the last answer's wait or end."""
        return self.answer.locator(".note")

    @property
    def verified(self) -> Locator:
        """Return the mark that says that nothing of the last answer was lost."""
        return self.answer.locator(".verified")

    async def close(self) -> None:
        """Close the tab."""
        await self.page.close()

    async def _until(self, condition: str, argument: object, within_s: float) -> None:
        await self.page.wait_for_function(condition, arg=argument, timeout=within_s * 1000)


class Visitor:
    """A visitor with a browser profile of their own. `complaints` are the errors and warnings of all their tabs."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self._context = context
        context.set_default_timeout(PAGE_S * 1000)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    async def open(self, url: str) -> Tab:
        """Return a new tab with this address."""
        page = await self._context.new_page()
        await page.goto(url)
        return Tab(page)

    async def chat(self, gateway_url: str, key: str = KEY) -> Tab:
        """Return a new tab with the chat page, opened as the banner says."""
        return await self.open(f"{gateway_url}/#key={key}")

    def forgive(self, *parts: str) -> None:
        """Drop the complaints that have one of these in them: the test has caused them."""
        self.complaints = [each for each in self.complaints if not any(part in each for part in parts)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@asynccontextmanager
async def visiting(browser: Browser) -> AsyncIterator[Visitor]:
    """Provide a visitor with a fresh profile."""
    context = await browser.new_context()
    try:
        yield Visitor(context)
    finally:
        await context.close()
