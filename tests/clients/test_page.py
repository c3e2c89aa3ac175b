"""The chat page in a real browser, against real processes: gateway, worker, Valkey, and a scripted upstream."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Route, expect

from tests.clients.browser import HEAL_S, Tab, Visitor, script
from tests.clients.system import KEY, ObservedUpstream, System
from tests.support.processes import Processes, Running
from tests.support.valkey import fresh_prefix

pytestmark = pytest.mark.asyncio(loop_scope="package")

HALF = "Once there was an old mill by a river. Its wheel had turned for longer than anyone could remember, and"
REST = (
    " the water that left it ran on through the tailrace, past the willows, down to the town.\n\n"
    'One spring the wheel stood still. "Then we shall wait," said the miller\'s daughter, naïve as a 🌊, and she did.'
)
STORY = HALF + REST
# Half of the story at once, then silence for long enough that the test can act, then the rest.
PAUSE_S = 3.0
IN_TWO_HALVES = {"text": STORY, "fault": "stall", "after": len(HALF.split()), "stall_s": PAUSE_S}

# Markup and framing that a careless page or policy would obey.
MARKUP = (
    '<script>document.title = "run"</script> <img src=x onerror="document.title = 1"> <b>bold</b> &amp; &lt; '
    "</p></li> data: [DONE] \\n id: 0-1 \u2028 a\n\nevent: completed\ndata: {}\n\n<style>*{display:none}</style>"
)

LOST = "net::ERR_"
REFUSED = "401 (Unauthorized)"


@pytest_asyncio.fixture(loop_scope="package")
async def gateway(processes: Processes, system: System, main_prefix: str, model: str) -> AsyncIterator[Running]:
    """Start a gateway of this test's own for one model that only this test uses; `system`'s worker is behind it."""
    started = await processes.gateway(key_prefix=main_prefix, models=(model,))
    yield started
    await started.stop()


async def half_way(visitor: Visitor, url: str, **changes: object) -> Tab:
    """Open a tab with half of its answer."""
    tab = await visitor.chat(url)
    await tab.ask(script(**{**IN_TWO_HALVES, **changes}))
    await tab.until_shows(HALF)
    return tab


async def assert_whole(tab: Tab, text: str = STORY) -> None:
    """Check that the answer has ended, is exactly this, and the page has proved that it lost nothing."""
    await tab.until_ended(within_s=HEAL_S)
    await tab.until_shows(text)
    assert (await tab.kept())["text"] == text
    await expect(tab.verified).to_be_visible()


# --- One tab


async def test_an_answer_comes_token_by_token_and_ends_exact_and_verified(visitor: Visitor, system: System) -> None:
    tab = await visitor.chat(system.url)
    await tab.ask(script(text=STORY, rate=20))

    lengths = [len(await tab.until_longer(0))]
    for _ in range(3):
        lengths.append(len(await tab.until_longer(lengths[-1])))
        assert STORY.startswith(await tab.shown())
        await expect(tab.verified).to_be_hidden()
    assert lengths[-1] < len(STORY)
    await assert_whole(tab)
    await expect(tab.answer.locator(".figures")).to_contain_text(f"{len(STORY.split())}\u00a0tokens")


async def test_a_conversation_continues_by_keyboard_and_outlives_a_reload(visitor: Visitor, system: System) -> None:
    tab = await visitor.chat(system.url)
    for number in (1, 2):
        await tab.page.keyboard.type(script(text=f"Answer {number}."))
        await expect(tab.send).to_be_enabled()
        await tab.page.keyboard.press("Enter")
        await assert_whole(tab, f"Answer {number}.")

    await tab.page.reload()

    await expect(tab.page.locator("#turns > li")).to_have_count(4)
    await assert_whole(tab, "Answer 2.")


async def test_the_key_leaves_the_address_bar_and_is_remembered(visitor: Visitor, system: System) -> None:
    tab = await visitor.chat(system.url)
    await expect(tab.send).to_be_enabled()
    assert tab.page.url == f"{system.url}/"

    again = await visitor.open(system.url)

    await expect(again.send).to_be_enabled()
    await expect(again.key_prompt).to_be_hidden()


@pytest.mark.parametrize("key", ["", "sk-mallory", "schlüssel …"], ids=["none", "wrong", "not even a header"])
async def test_the_page_asks_for_a_key_if_it_has_no_valid_one(visitor: Visitor, system: System, key: str) -> None:
    tab = await visitor.chat(system.url, key)
    await expect(tab.key_prompt).to_be_visible()
    await expect(tab.send).to_be_hidden()

    await tab.key_prompt.locator("#key").fill(KEY)
    await tab.key_prompt.locator("button").click()
    await tab.ask(script(text=STORY))

    await assert_whole(tab)
    await expect(tab.key_prompt).to_be_hidden()
    visitor.forgive(REFUSED)


async def test_an_address_with_another_key_changes_nothing_before_a_confirmation(
    visitor: Visitor, system: System
) -> None:
    tab = await visitor.chat(system.url)
    await tab.ask(script(text="Mine."))
    await assert_whole(tab, "Mine.")

    other = await visitor.chat(system.url, "sk-bob")
    await expect(other.switch).to_be_visible()
    await expect(other.send).to_be_hidden()
    assert other.page.url == f"{system.url}/"
    assert await other.page.evaluate("""() => localStorage["tailrace.key"]""") == KEY
    await other.until_shows("Mine.")

    await other.switch.locator("#stay").click()
    await other.ask(script(text="Still mine."))
    await assert_whole(other, "Still mine.")
    assert len(await other.turns()) == 4


async def test_a_conversation_stays_with_the_key_that_it_began_under(visitor: Visitor, system: System) -> None:
    tab = await visitor.chat(system.url)
    await tab.ask(script(text="Mine."))
    await assert_whole(tab, "Mine.")

    await tab.page.evaluate("() => { location.hash = 'key=sk-bob'; }")
    await tab.switch.locator("#change").click()
    await expect(tab.send).to_be_enabled()
    await expect(tab.page.locator("#turns > li")).to_have_count(0)

    await tab.page.evaluate(f"() => {{ location.hash = 'key={KEY}'; }}")
    await tab.switch.locator("#change").click()
    await tab.until_shows("Mine.")


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "5",
        "no JSON",
        '{"length": 3}',
        '[1, null, "x", {}, {"id": "a", "role": "assistant", "status": "reading", "text": "x"}]',
        '[{"id": "a", "role": "assistant", "status": "reading", "text": "", "job": {"id": "x", "events": "http://x"}}]',
        '[{"id": "a", "role": "assistant", "status": "completed", "text": "x", "tools": 5}]',
    ],
)
async def test_the_page_works_with_any_content_of_local_storage(visitor: Visitor, system: System, content: str) -> None:
    tab = await visitor.chat(system.url)
    await tab.ask(script(text="Before."))
    await assert_whole(tab, "Before.")
    (name,) = await tab.page.evaluate(
        """() => Object.keys(localStorage).filter((name) => name.startsWith("tailrace.conversation."))"""
    )
    await tab.page.evaluate(
        """([name, content]) => { localStorage[name] = content; localStorage["tailrace.model"] = content; }""",
        [name, content],
    )

    await tab.page.reload()
    await tab.ask(script(text="After."))

    await assert_whole(tab, "After.")


async def test_markup_in_an_answer_is_shown_as_text(visitor: Visitor, system: System) -> None:
    tab = await visitor.chat(system.url)

    await tab.ask(script(text=MARKUP, rate=100))

    await assert_whole(tab, MARKUP)
    assert await tab.page.title() == "Tailrace"
    assert await tab.answer.locator("script, img, b, style").count() == 0


async def test_only_the_pages_own_files_may_run(visitor: Visitor, system: System) -> None:
    tab = await visitor.chat(system.url)

    await tab.page.evaluate(
        """() => {
          window.violated = [];
          addEventListener("securitypolicyviolation", (event) => window.violated.push(event.effectiveDirective));
          const inline = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
          document.body.append(inline("script", "document.title = 'run'"), inline("style", "* { display: none }"));
          fetch("https://elsewhere.invalid/").catch(() => {});
        }"""
    )

    await tab.page.wait_for_function("() => window.violated.length === 3")
    violated = sorted(await tab.page.evaluate("() => window.violated"))
    assert violated == ["connect-src", "script-src-elem", "style-src-elem"]
    assert await tab.page.title() == "Tailrace"
    visitor.forgive("Content Security Policy")


async def test_an_answer_with_a_token_missing_is_not_called_verified(visitor: Visitor, system: System) -> None:
    async def lose_a_token(route: Route) -> None:
        response = await route.fetch()
        frames = (await response.text()).split("\n\n")
        (lost,) = (frame for frame in frames if "wheel" in frame)
        await route.fulfill(response=response, body="\n\n".join(frame for frame in frames if frame != lost))

    tab = await visitor.chat(system.url)
    await tab.page.route("**/events?*", lose_a_token)

    await tab.ask(script(text="The wheel turns."))

    await tab.until_shows("The turns.")
    await tab.until_ended()
    await expect(tab.verified).to_be_hidden()


async def test_the_page_shows_an_upstreams_failure_and_offers_a_retry(visitor: Visitor, system: System) -> None:
    tab = await visitor.chat(system.url)
    trouble = tab.answer.locator(".trouble")
    jobs = []

    await tab.ask(script(text=STORY, fault="truncate", after=len(HALF.split())))
    for _ in range(2):
        await expect(trouble.locator(".code")).to_have_text("provider_truncated")
        assert await tab.shown() == HALF
        await expect(tab.verified).to_be_hidden()
        jobs.append((await tab.kept())["job"]["id"])
        async with tab.page.expect_response("**/v1/jobs"):
            await trouble.locator(".again").click()
        await tab.until_ended()

    assert len({*jobs, (await tab.kept())["job"]["id"]}) == 3
    await expect(tab.page.locator("#turns > li")).to_have_count(2)


# --- Tabs that close, reload, and are two


async def test_a_tab_closed_in_mid_answer_is_opened_again_and_nothing_is_lost(visitor: Visitor, system: System) -> None:
    tab = await half_way(visitor, system.url)
    await tab.close()

    again = await visitor.open(system.url)

    await again.until_shows(HALF)
    await expect(again.stop).to_be_visible()
    await assert_whole(again)


async def test_a_tab_opened_after_the_end_shows_the_whole_answer(
    visitor: Visitor, gateway: Running, model: str, upstream: ObservedUpstream
) -> None:
    tab = await half_way(visitor, gateway.url, stall_s=0.5)
    job = (await tab.kept())["job"]["id"]
    await tab.close()
    await System(gateway.url, upstream).end_of(job)

    again = await visitor.open(gateway.url)

    await assert_whole(again)
    assert len(await upstream.requests(model)) == 1


async def test_a_reload_in_mid_answer_continues(visitor: Visitor, system: System) -> None:
    tab = await half_way(visitor, system.url)

    await tab.page.reload()

    await tab.until_shows(HALF)
    await expect(tab.stop).to_be_visible()
    await assert_whole(tab)


async def test_a_second_tab_shows_the_same_answer_live(visitor: Visitor, system: System) -> None:
    one, other = await visitor.chat(system.url), await visitor.chat(system.url)
    await one.ask(script(text=STORY, rate=20))

    for tab in (other, one, other, one):
        await tab.until_longer(len(await tab.shown()))
        await expect(tab.stop).to_be_visible()

    await asyncio.gather(assert_whole(one), assert_whole(other))


# --- Stop


async def test_stop_keeps_the_text_and_closes_the_upstreams_socket(
    visitor: Visitor, gateway: Running, model: str, upstream: ObservedUpstream
) -> None:
    tab = await half_way(visitor, gateway.url, stall_s=None)

    await tab.stop.click()

    await tab.until_ended()
    await expect(tab.note).to_have_text("Stopped.")
    assert await tab.shown() == HALF
    await upstream.until_closed(model)


async def test_stop_works_before_the_first_token_and_from_another_tab(
    visitor: Visitor, gateway: Running, model: str, upstream: ObservedUpstream
) -> None:
    tab, other = await visitor.chat(gateway.url), await visitor.chat(gateway.url)
    await tab.ask(script(fault="hang"))
    await upstream.until_asked(model)

    await other.stop.click()

    for each in (tab, other):
        await each.until_ended()
        await expect(each.note).to_have_text("Stopped.")
        assert await each.shown() == ""
    await upstream.until_closed(model)


# --- Processes that die


async def test_the_page_heals_by_itself_when_a_killed_gateway_returns(
    visitor: Visitor, gateway: Running, model: str, upstream: ObservedUpstream
) -> None:
    tab = await half_way(visitor, gateway.url, stall_s=5.0)
    await gateway.crash()
    await expect(tab.note).to_have_text("Connection lost. Reconnecting…")
    assert await tab.shown() == HALF

    await gateway.start()

    await expect(tab.note).to_be_hidden(timeout=HEAL_S * 1000)
    await assert_whole(tab)
    assert len(await upstream.requests(model)) == 1
    visitor.forgive(LOST)


async def test_a_question_waits_for_a_gateway_that_is_away_and_is_asked_once(
    visitor: Visitor, gateway: Running, model: str, upstream: ObservedUpstream
) -> None:
    tab = await visitor.chat(gateway.url)
    await expect(tab.send).to_be_enabled()
    await gateway.crash()
    await tab.ask(script(text=STORY))
    await expect(tab.note).to_contain_text("The gateway can't be reached. Trying again")

    await gateway.start()

    await assert_whole(tab)
    assert len(await upstream.requests(model)) == 1
    visitor.forgive(LOST)


async def test_a_question_whose_receipt_is_lost_is_the_same_job_when_it_is_sent_again(
    visitor: Visitor, gateway: Running, model: str, upstream: ObservedUpstream
) -> None:
    async def lose_the_receipt(route: Route) -> None:
        assert (await route.fetch()).status == 202
        await route.abort()

    tab = await visitor.chat(gateway.url)
    await tab.page.route("**/v1/jobs", lose_the_receipt, times=1)

    await tab.ask(script(text=STORY))

    await assert_whole(tab)
    assert len(await upstream.requests(model)) == 1
    visitor.forgive(LOST)


async def test_the_answer_of_a_killed_worker_starts_over_at_another_one(
    visitor: Visitor, processes: Processes, upstream: ObservedUpstream, model: str
) -> None:
    prefix = fresh_prefix()
    options = {"key_prefix": prefix, "lease_s": 1.0, "upstream_url": upstream.base_url}
    gateway, first = await asyncio.gather(
        processes.gateway(key_prefix=prefix, models=(model,)), processes.worker(**options)
    )
    tab = await half_way(visitor, gateway.url)

    await first.crash()
    second = await processes.worker(**options)

    await assert_whole(tab)
    assert len(await upstream.requests(model)) == 2
    await asyncio.gather(gateway.stop(), second.stop())
