"""What the page looks like and what it loads, on a chat of the test's own."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from chat_page import FIRST_PAINT_MS, ChatPage
from own_chat import Answer, OwnChat
from playwright.sync_api import Browser, Locator, expect

Visit = Callable[..., ChatPage]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
CONTRAST = 4.5
THUMB_PIXELS = 44
# A question, an answer, a table and code that are wider than a phone.
WIDE = (
    "# Heading\n\nA [link](http://foreign.example/), `code` and $$x^2 + y^2$$.\n\n"
    + "|"
    + "a column that is wide|" * 12
    + "\n|"
    + "-|" * 12
    + "\n|"
    + "cell|" * 12
    + "\n\n```python\nprint('"
    + "long " * 80
    + "')\n```\n\n"
    + "x" * 300
)
# How what an element shows differs in light from what is behind it, as WCAG 2 computes it.
CONTRAST_OF = """element => {
  const parse = (color) => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  };
  let behind = element;
  const layers = [];
  while (behind) {
    const color = parse(getComputedStyle(behind).backgroundColor);
    if (color[3] > 0) layers.push(color);
    if (color[3] === 255) break;
    behind = behind.parentElement;
  }
  const base = layers.pop() ?? [255, 255, 255, 255];
  const background = layers.reverse().reduce(
    (under, over) => under.map((v, i) => over[i] * over[3] / 255 + v * (1 - over[3] / 255)), base);
  const text = parse(getComputedStyle(element).color);
  const [low, high] = [luminance(text), luminance(background)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""


class Listener:
    """A foreign host that counts who connects."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.2", 0))
        self.address = f"http://127.0.0.2:{self._socket.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def foreign() -> Iterator[Listener]:
    """A foreign host that listens."""
    listener = Listener()
    yield listener
    listener.close()


def answer(chat: OwnChat, page: ChatPage, text: str, question: str = "Hello") -> Locator:
    """Let the back end answer this, and wait until it is shown."""
    chat.fake.script.append(Answer((text,)))
    page.ask(question)
    expect(page.page.locator(".ai-message").last).to_be_visible(timeout=15_000)
    page.wait_answered()
    return page.page.locator(".ai-message").last


def contrast(element: Locator) -> float:
    """The contrast of the text of an element."""
    return float(element.evaluate(CONTRAST_OF))


def overflow(page: ChatPage) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def test_no_answer_makes_the_page_ask_elsewhere(
    own_chat: OwnChat, visit: Visit, foreign: Listener
) -> None:
    page = visit(own_chat.url)
    there = foreign.address
    # It would be noticed: the same link, followed by a person, arrives.
    probe = page.page.context.new_page()
    with pytest.raises(Exception, match="ERR_"):
        probe.goto(there)
    assert foreign.connections > 0
    probe.close()
    before = foreign.connections
    answer(own_chat, page, f"![picture]({there}/a.png) [link]({there}/b) <img src='{there}/c.png'>")
    answer(
        own_chat, page, f"![film]({there}/a.mp4)\n\n<link rel=preconnect href='{there}'>\n\n{there}"
    )
    answer(own_chat, page, f"<iframe src='{there}'></iframe> <script src='{there}/x.js'></script>")
    answer(own_chat, page, f"<style>@import '{there}/x.css'</style> $$\\href{{{there}}}{{x}}$$")
    answer(own_chat, page, WIDE, question=f"![picture]({there}/q.png)")
    page.page.locator("#readme-button").click()
    expect(page.page.get_by_role("dialog")).to_be_visible()
    page.page.wait_for_timeout(500)
    assert foreign.connections == before
    blocked = [
        url for url in page.foreign_requests if urlsplit(url).netloc != urlsplit(there).netloc
    ]
    assert blocked == []


def test_first_paint_is_within_a_second_without_any_foreign_host(
    own_chat: OwnChat, browser: Browser
) -> None:
    context = browser.new_context()
    page = ChatPage(context.new_page(), own_chat.url)
    own = re.escape(urlsplit(own_chat.url).netloc)
    # Neither answered nor refused: what waits for it waits for the whole test.
    page.page.route(re.compile(rf"^https?://(?!{own})"), lambda _: None)
    page.open()
    paints = page.paints()
    context.close()
    assert max(paints.values()) <= FIRST_PAINT_MS
    assert page.foreign_requests == []


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_phone(own_chat: OwnChat, visit: Visit, locale: str) -> None:
    page = visit(own_chat.url, locale, **PHONE)
    assert overflow(page) <= 0
    own_chat.fake.script.append(Answer(("word " * 50,), "hang"))
    page.page.locator("#chat-input").fill("Hello")
    expect(page.page.locator("#chat-submit")).to_be_enabled(timeout=20_000)
    page.page.locator("#chat-submit").tap()
    page.page.locator("#stop-button").tap()
    page.wait_answered(5)
    answer(own_chat, page, WIDE, question="y" * 300)
    assert overflow(page) <= 0
    page.page.locator("#chat-settings-open-modal").tap()
    dialog = page.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.page.wait_for_timeout(500)
    box = dialog.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 844
    page.page.keyboard.press("Escape")
    own_chat.fail()
    expect(page.banner()).to_have_attribute("data-state", "down", timeout=10_000)
    page.page.wait_for_timeout(500)
    banner = page.banner().bounding_box()
    composer = page.page.locator("#message-composer").bounding_box()
    assert banner is not None
    assert composer is not None
    assert banner["x"] >= 0
    assert banner["x"] + banner["width"] <= 390
    # Below the buttons of the header, above what one types.
    header = page.page.locator("#header").bounding_box()
    assert header is not None
    assert banner["y"] >= 44
    assert banner["y"] + banner["height"] < composer["y"]
    assert composer["y"] + composer["height"] <= 844
    for button in page.page.locator("button:visible").all():
        size = button.bounding_box()
        assert size is not None
        assert min(size["width"], size["height"]) >= THUMB_PIXELS, button.evaluate(
            "b => b.outerHTML"
        )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read(own_chat: OwnChat, visit: Visit, theme: str) -> None:
    page = visit(own_chat.url, color_scheme=theme)
    expect(page.page.locator("html")).to_have_class(re.compile(theme))
    bright = page.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    )
    assert (bright > 200) == (theme == "light")
    shown = answer(own_chat, page, "Text with a [link](http://foreign.example/) and `code`.")
    for part in ("[role=article]", "a", "code"):
        assert contrast(shown.locator(part).first) >= CONTRAST, part
    assert contrast(page.page.get_by_text("Hello", exact=True)) >= CONTRAST
    own_chat.fail()
    expect(page.banner()).to_have_attribute("data-state", "down", timeout=10_000)
    assert contrast(page.banner()) >= CONTRAST
    page.ask("And now?")
    notice = page.page.locator(".ai-message").last
    expect(notice).to_contain_text("Your question is kept", timeout=10_000)
    assert contrast(notice.locator("[role=article]").first) >= CONTRAST
    for state in ("offline", "saturated", "up"):
        page.banner().evaluate("(banner, state) => { banner.dataset.state = state; }", state)
        assert contrast(page.banner()) >= CONTRAST, state


def test_theme_of_the_device_until_a_person_chooses(own_chat: OwnChat, visit: Visit) -> None:
    page = visit(own_chat.url, color_scheme="dark")
    expect(page.page.locator("html")).to_have_class(re.compile("dark"))
    page.page.locator("#theme-toggle").click()
    page.page.get_by_role("menuitem").first.click()
    expect(page.page.locator("html")).to_have_class(re.compile("light"))
    page.page.reload()
    expect(page.page.locator("html")).to_have_class(re.compile("light"))


def test_own_color_and_logo_are_seen(tmp_path: Path, visit: Visit) -> None:
    red = '<path fill="red" d="M0 0h1v1H0z"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1">{red}</svg>'
    (tmp_path / "logo.svg").write_text(svg, encoding="utf-8")
    with OwnChat(
        tmp_path, logo_path="logo.svg", primary_color="#7c3aed", theme="dark", title="Zürich 你好"
    ) as chat:
        page = visit(chat.url, color_scheme="light")
        expect(page.page.locator("html")).to_have_class(re.compile("dark"))
        logo = page.page.locator("#welcome-screen img.logo")
        expect(logo).to_be_visible()
        # A picture in a picture is drawn by itself, or not at all.
        pixel = logo.evaluate(
            """async (image) => {
              await image.decode();
              const canvas = document.createElement("canvas").getContext("2d");
              canvas.drawImage(image, 0, 0, image.width, image.height);
              return [...canvas.getImageData(6, image.height / 2, 1, 1).data];
            }"""
        )
        assert pixel == [255, 0, 0, 255]
        page.page.locator("#chat-input").fill("Hello")
        button = page.page.locator("#chat-submit")
        expect(button).to_be_enabled(timeout=20_000)
        red, green, blue = button.evaluate(
            "b => getComputedStyle(b).backgroundColor.match(/\\d+/g).map(Number)"
        )
        assert blue > red > green
        assert page.page.title() == "Zürich 你好"


@pytest.mark.parametrize(
    ("locale", "said"), [("en-US", "recovering (since {})"), ("zh-CN", "自 {} 起")]
)
def test_banner_says_since_when(own_chat: OwnChat, visit: Visit, locale: str, said: str) -> None:
    early = visit(own_chat.url, locale)
    own_chat.fail()
    expect(early.banner()).to_have_attribute("data-state", "down", timeout=10_000)
    late = visit(own_chat.url, locale, timezone_id="Asia/Kolkata")
    expect(late.banner()).to_have_attribute("data-state", "down", timeout=10_000)
    for page in (early, late):
        # A minute may have passed since the page has said it.
        times = page.page.evaluate(
            """(locale) => [0, 1].map((minutes) => new Date(Date.now() - minutes * 60000)
              .toLocaleString(locale, { hour: "2-digit", minute: "2-digit" }))""",
            locale,
        )
        text = page.banner().inner_text()
        assert any(said.format(time) in text for time in times), (text, times)
    own_chat.recover()
    expect(early.banner()).to_have_attribute("data-state", "up", timeout=10_000)


@pytest.mark.parametrize(
    ("locale", "said"), [("en-US", "100,000 characters"), ("zh-CN", "100,000 个")]
)
def test_too_long_question_stays_on_the_page(
    own_chat: OwnChat, visit: Visit, locale: str, said: str
) -> None:
    page = visit(own_chat.url, locale)
    answer(own_chat, page, "Paris")
    text = page.page.locator("#chat-input")
    # More than the connection would take.
    text.fill("x" * 2_000_000)
    text.press("Enter")
    expect(page.page.get_by_role("alert")).to_contain_text(said)
    page.page.locator("#chat-submit").click()
    assert len(text.input_value()) == 2_000_000
    assert len(own_chat.fake.requests) == 1
    text.fill("x" * 100_000)
    text.press("Enter")
    expect(page.page.locator(".ai-message")).to_have_count(2, timeout=15_000)
    # Shown while the mouse is there, which the page may scroll away.
    page.page.locator(".edit-message").first.dispatch_event("click")
    page.page.locator("#edit-chat-input").fill("x" * 100_001)
    page.page.locator(".confirm-edit").click()
    expect(page.page.get_by_role("alert")).to_contain_text(said)
    assert len(own_chat.fake.requests) == 2


ATTACK = "window.hacked = true; alert(1)"
SCRIPTS = [
    f"<script>{ATTACK}</script>",
    f"<img src=x onerror='{ATTACK}'>",
    f"<svg onload='{ATTACK}'></svg>",
    f"[link](javascript:{ATTACK.replace(' ', '%20')})",
    f"<a href='javascript:{ATTACK}'>link</a>",
    f'![x](x" onerror="{ATTACK})',
    f"<iframe srcdoc='<script>parent.{ATTACK}</script>'></iframe>",
    f"```html\n<script>{ATTACK}</script>\n```",
    f"<details open ontoggle='{ATTACK}'>x</details>",
    f"[x](data:text/html,<script>{ATTACK}</script>)",
    f"<math><mtext><img src=x onerror='{ATTACK}'></mtext></math>",
    f"|<img src=x onerror='{ATTACK}'>|\n|-|\n|<script>{ATTACK}</script>|",
]


def test_script_in_markdown_does_nothing(own_chat: OwnChat, visit: Visit) -> None:
    page = visit(own_chat.url)
    dialogs: list[str] = []

    def noted(dialog: object) -> None:
        dialogs.append(str(dialog))

    page.page.on("dialog", noted)
    for script in SCRIPTS:
        answer(own_chat, page, script, question=script)
        for link in page.page.locator(".ai-message a").all():
            link.evaluate("a => { a.target = '_self'; }")
            if (link.get_attribute("href") or "").startswith("javascript"):
                link.click(force=True)
    name = f"<img src=x onerror='{ATTACK}'>.txt"
    page.page.locator("#upload-button-input").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": b"x"}
    )
    expect(page.page.locator("#message-composer")).to_contain_text("onerror")
    answer(own_chat, page, "Read.")
    picture = f"<img src=x onerror='{ATTACK}'>.bin"
    page.page.locator("#upload-button-input").set_input_files(
        {"name": picture, "mimeType": "", "buffer": b"\0\1"}
    )
    expect(page.page.locator("#message-composer")).to_contain_text("onerror")
    page.ask("Read.")
    # The refusal names the file.
    expect(page.page.locator(".ai-message").last).to_contain_text("onerror", timeout=15_000)
    page.page.wait_for_timeout(500)
    assert dialogs == []
    assert page.page.evaluate("window.hacked") is None
    assert (
        page.page.locator("#root script, #root iframe, #root [onerror], #root [onload]").count()
        == 0
    )
    assert page.page.url == own_chat.url


def test_script_from_the_address_does_nothing(own_chat: OwnChat, visit: Visit) -> None:
    page = visit(own_chat.url + f"?prompt=<script>{ATTACK}</script>")
    page.page.wait_for_timeout(500)
    assert page.page.evaluate("window.hacked") is None
