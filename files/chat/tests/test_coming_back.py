"""Pages that were away for a moment, were loaded anew, or come back to a chat that has restarted."""

from __future__ import annotations

from chat_process import Page, Start
from fake_upstream import Answer, FakeUpstream


async def test_an_answer_can_be_stopped_by_a_page_that_came_back(
    start: Start, fake: FakeUpstream
) -> None:
    chat = await start()
    page = Page(chat.url)
    await page.open()
    fake.script.append(Answer(("It is",), "hang"))
    await page.ask("first")
    await page.sees("It is")
    await page.close()
    page.states.clear()
    await page.connect()
    # The chat has met the new connection; the page takes a moment longer to say so.
    await page.until(lambda: page.states)
    await page.connected()
    await page.until(lambda: page.running)
    await page.stop()
    await page.ended()
    await page.close()
