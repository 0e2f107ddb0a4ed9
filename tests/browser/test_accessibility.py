"""The keyboard and the screen reader, on a chat of the test's own; axe-core says what it finds."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from importlib.resources import files

import pytest
from chat_page import ChatPage
from own_chat import Answer, OwnChat
from playwright.sync_api import FloatRect, Page, expect

Visit = Callable[..., ChatPage]
AXE = files("axe_playwright_python") / "axe.min.js"
RICH = (
    "# Heading\n\nA [link](http://foreign.example/) and `code`.\n\n"
    "```python\nprint(1)  # a comment\n```\n\n|a|b|\n|-|-|\n|1|2|\n"
)
# What has the focus, as people are told, and where it is.
FOCUSED = """() => {
  const element = document.activeElement;
  const box = element.getBoundingClientRect();
  return {
    name: element.getAttribute("aria-label") ?? element.innerText.trim(),
    // With what is drawn around it; the place to type is drawn around by its frame.
    clip: { x: Math.max(0, box.x - 20), y: Math.max(0, box.y - 20),
            width: box.width + 40, height: box.height + 40 },
  };
}"""


# How many points of two pictures differ so much that one sees it.
DIFFERENT = """async (pictures) => {
  const [one, other] = await Promise.all(pictures.map(async (picture) => {
    const image = new Image();
    image.src = "data:image/png;base64," + picture;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height).data;
  }));
  return one.filter((value, index) => Math.abs(value - other[index]) > 60).length;
}"""


def is_seen(page: Page, clip: FloatRect) -> bool:
    """Whether what has the focus looks otherwise than without."""
    focused = page.screenshot(clip=clip, animations="disabled")
    page.evaluate("window.before = document.activeElement; window.before.blur()")
    blurred = page.screenshot(clip=clip, animations="disabled")
    page.evaluate("window.before.focus()")
    pictures = [base64.b64encode(picture).decode() for picture in (focused, blurred)]
    return int(page.evaluate(DIFFERENT, pictures)) > 100


def findings(page: Page) -> list[str]:
    """What axe-core has against the page as it stands."""
    found = page.evaluate("() => window.axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{item['id']}: {node['html'][:200]}"
        for item in found["violations"]
        for node in item["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(
    own_chat: OwnChat, visit: Visit, theme: str, locale: str, width: int
) -> None:
    page = visit(own_chat.url, locale, color_scheme=theme, viewport={"width": width, "height": 844})
    # By the browser itself, whom the page's policy does not bind; evaluated, it would be refused.
    page.page.context.add_init_script(script=AXE.read_text(encoding="utf-8"))
    page.open()
    page.page.wait_for_timeout(1000)
    assert findings(page.page) == []
    own_chat.fake.script.append(Answer((RICH,)))
    page.ask("Hello")
    expect(page.page.locator("#stop-button")).to_have_count(0, timeout=15_000)
    expect(page.page.locator(".ai-message")).to_have_count(1)
    page.page.wait_for_timeout(500)
    assert findings(page.page) == []
    for opener in ("#chat-settings-open-modal", "#readme-button", "#new-chat-button"):
        page.page.locator(opener).click()
        expect(page.page.get_by_role("dialog")).to_be_visible()
        page.page.wait_for_timeout(400)
        assert findings(page.page) == [], opener
        page.page.keyboard.press("Escape")
        expect(page.page.get_by_role("dialog")).to_have_count(0)
    own_chat.fail()
    expect(page.banner()).to_have_attribute("data-state", "down", timeout=10_000)
    page.page.wait_for_timeout(400)
    assert findings(page.page) == []


NAMES = {
    "en-US": (
        "New chat|Readme|Light or dark|Copy|Answer again|Save the conversation as Markdown|"
        "Save the conversation as JSON|Your question|Add a file|Settings of this chat"
    ),
    "zh-CN": (
        "新建对话|说明|浅色或深色|复制|重新回答|将对话保存为 Markdown|将对话保存为 JSON|"
        "您的问题|添加文件|此对话的设置"
    ),
}


@pytest.mark.parametrize("locale", NAMES)
def test_everything_is_reached_by_tab_in_the_order_of_the_page(
    own_chat: OwnChat, visit: Visit, locale: str
) -> None:
    names = NAMES[locale].split("|")
    page = visit(own_chat.url, locale)
    page.ask("Hello")
    expect(page.page.locator(".ai-message")).to_have_count(1, timeout=15_000)
    page.wait_answered()
    page.page.locator("button:has(svg.lucide-braces)").wait_for()
    # From the beginning of the page.
    page.page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    reached = []
    for _ in range(30):
        page.page.keyboard.press("Tab")
        focused = page.page.evaluate(FOCUSED)
        assert focused["name"], "something without a name has the focus"
        assert is_seen(page.page, focused["clip"]), (
            f"nobody sees that {focused['name']} has the focus"
        )
        reached.append(focused["name"])
        if focused["name"] == names[-1]:
            break
    assert [name for name in reached if name in names] == names


def test_a_question_by_keyboard_alone(own_chat: OwnChat, visit: Visit) -> None:
    page = visit(own_chat.url)
    # The place to type has the focus from the beginning.
    expect(page.page.locator("#chat-input")).to_be_focused()
    page.page.keyboard.type("first")
    expect(page.page.locator("#chat-submit")).to_be_enabled(timeout=20_000)
    page.page.keyboard.press("Shift+Enter")
    page.page.keyboard.type("second")
    assert own_chat.fake.requests == []
    page.page.keyboard.press("Enter")
    expect(page.page.locator(".ai-message")).to_have_count(1, timeout=15_000)
    assert own_chat.fake.requests[0]["messages"][0]["content"] == "first\nsecond"


@pytest.mark.parametrize(
    "opener", ["#chat-settings-open-modal", "#readme-button", "#new-chat-button"]
)
def test_escape_closes_a_dialog_and_the_focus_returns(
    own_chat: OwnChat, visit: Visit, opener: str
) -> None:
    page = visit(own_chat.url)
    page.ask("Hello")
    page.wait_answered()
    # In one step: what comes after an answer draws the buttons anew.
    page.page.locator(opener).press("Enter")
    dialog = page.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    for _ in range(12):
        page.page.keyboard.press("Tab")
        # The focus stays where one can see it.
        assert page.page.evaluate("document.activeElement.closest('[role=dialog]') !== null")
    page.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_states_and_answers_are_read_aloud(own_chat: OwnChat, visit: Visit) -> None:
    page = visit(own_chat.url)
    # A region is watched only where it has been before its text.
    expect(page.banner()).to_have_role("status")
    expect(page.banner()).to_have_text("")
    aloud = page.page.locator("#answer-read-aloud")
    expect(aloud).to_have_role("status")
    own_chat.fake.script.append(Answer(("One", "two", "three", "four."), pause_seconds=0.3))
    page.ask("Hello")
    expect(page.page.locator(".ai-message")).to_contain_text("two", timeout=10_000)
    # Not word by word.
    expect(aloud).to_have_text("")
    page.wait_answered()
    expect(aloud).to_have_text("Onetwothreefour.")
    expect(page.page.get_by_role("group", name="Answer")).to_have_count(1)
    own_chat.fail()
    expect(page.banner()).to_contain_text("recovering", timeout=10_000)


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_page_says_its_language_and_title(own_chat: OwnChat, visit: Visit, locale: str) -> None:
    page = visit(own_chat.url, locale)
    expect(page.page.locator("html")).to_have_attribute("lang", locale)
    expect(page.page.get_by_role("heading", level=1)).to_have_text("Fleet Chat")
    expect(page.page.get_by_role("main")).to_have_count(1)
    expect(page.page.locator("#chat-submit")).to_have_accessible_name(re.compile("Send|发送"))
