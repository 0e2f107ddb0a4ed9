"""Colours stay readable and logos harmless, and both reach the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from chat_process import Start, get
from gpufleet_chat.looks import (
    BACKGROUNDS,
    CONTRAST,
    LOGO_MAX_BYTES,
    LooksError,
    contrast,
    read_logo,
    shades,
)
from gpufleet_chat.settings import SettingsError, parse_settings

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{}</svg>'
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[index : index + 2], 16) for index in (1, 3, 5))
    return red, green, blue


@pytest.mark.parametrize(
    "color", ["#0f766e", "#ffff00", "#000000", "#ffffff", "#ff0000", "#9333EA"]
)
def test_any_color_can_be_read_in_both_themes(color: str) -> None:
    for theme, shade in shades(color).items():
        assert contrast(rgb(shade.hexadecimal), BACKGROUNDS[theme]) >= CONTRAST
        text = (255, 255, 255) if shade.text.endswith("100%") else (23, 23, 23)
        assert contrast(rgb(shade.hexadecimal), text) >= CONTRAST


def test_a_color_that_can_be_read_stays() -> None:
    assert contrast(rgb(shades("#0f766e")["light"].hexadecimal), rgb("#0f766e")) < 1.05
    # The example of WCAG itself.
    assert round(contrast((119, 119, 119), (255, 255, 255)), 2) == 4.48


@pytest.mark.parametrize("color", ["teal", "#fff", "0f766e", "#0f766e;}", "#0f766g", ""])
def test_what_is_no_color_is_refused(color: str) -> None:
    with pytest.raises(LooksError, match="six hexadecimal digits"):
        shades(color)


@pytest.mark.parametrize(
    "inside",
    [
        '<path d="M0 0h8v8z" fill="#fff" style="fill:url(#a)"/>',
        '<use xlink:href="#a"/><linearGradient id="a"/>',
        '<image href="data:image/png;base64,iVBORw0KGgo="/>',
        "<style>.a { fill: url('#b') }</style>",
        "<!-- https://example.com --><title>https is no link</title>",
    ],
)
def test_a_harmless_logo_is_taken(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "logo.svg"
    path.write_text(SVG.format(inside), encoding="utf-8")
    assert read_logo(path).suffix == ".svg"


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("<script>alert(1)</script>", "the element script"),
        ("<SCRIPT/>", "the element script"),
        ('<a xmlns="http://www.w3.org/1999/xhtml" onclick="x()"/>', "the script onclick"),
        ('<path onload="alert(1)"/>', "the script onload"),
        ("<foreignObject/>", "the element foreignobject"),
        ('<image href="https://evil.example/x.png"/>', "a link to https://evil.example"),
        ('<image xlink:href="//evil.example/x.png"/>', "a link to //evil.example"),
        ('<use href="other.svg#a"/>', "a link to other.svg"),
        ('<a href="javascript:alert(1)"/>', "a link to javascript"),
        ('<image href="data:image/svg+xml;base64,AAAA"/>', "a link to data:image/svg"),
        ('<set attributeName="href" to="javascript:alert(1)"/>', "to with a foreign reference"),
        ("<style>@import 'a.css';</style>", "a style that names another file"),
        ("<style>a{b:url( x.png )}</style>", "a style that names another file"),
        (r"<style>a{b:\75rl(x.png)}</style>", "a style that names another file"),
        ('<path style="fill:url(https://evil.example)"/>', "style with a foreign reference"),
        ('<path fill="url(other.svg#a)"/>', "fill with a foreign reference"),
    ],
)
def test_a_logo_that_could_do_something_is_refused(tmp_path: Path, inside: str, said: str) -> None:
    path = tmp_path / "logo.svg"
    path.write_text(SVG.format(inside), encoding="utf-8")
    with pytest.raises(LooksError, match=re.escape(said)) as raised:
        read_logo(path)
    assert raised.value.remedy == "Export it as plain SVG with all its parts inside, or as PNG."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GIF89a", "neither a PNG nor an SVG"),
        (b"<html/>", "no SVG"),
        (b"<!DOCTYPE svg [<!ENTITY a 'b'>]><svg/>", "a DOCTYPE"),
        (b"<?xml-stylesheet href='a.css'?>" + SVG.format("").encode(), "a style sheet"),
        (SVG.format("<script/>").encode("utf-16"), "in UTF-8"),
        (PNG + b"\0" * LOGO_MAX_BYTES, "larger than 256 KiB"),
    ],
    ids=["gif", "html", "entities", "style sheet", "utf-16", "large"],
)
def test_what_is_no_logo_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "logo"
    path.write_bytes(content)
    with pytest.raises(LooksError, match=said):
        read_logo(path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"theme": "night"}, "system, light, dark"),
        ({"primary_color": "teal"}, '"primary_color": "teal" is no colour'),
        ({"logo_path": "/nowhere/logo.svg"}, '"logo_path": /nowhere/logo.svg cannot be read'),
    ],
)
def test_settings_name_what_is_wrong(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_settings({"upstream_url": "http://a/v1", "state_directory": "/tmp", **settings})


@pytest.mark.parametrize("theme", ["system", "light", "dark"])
async def test_the_page_gets_the_theme(start: Start, theme: str) -> None:
    chat = await start(theme=theme)
    settings = (await get(f"{chat.url}/project/settings?language=en-US")).json()
    assert settings["ui"]["default_theme"] == theme


@pytest.mark.parametrize(("suffix", "kind"), [("png", "image/png"), ("svg", "image/svg+xml")])
async def test_the_page_gets_logo_and_color(
    start: Start, tmp_path: Path, suffix: str, kind: str
) -> None:
    content = PNG if suffix == "png" else SVG.format("<path/>").encode()
    (tmp_path / f"logo.{suffix}").write_bytes(content)
    # Beside settings.json, as in a release.
    chat = await start(logo_path=f"logo.{suffix}", primary_color="#ffff00")
    for address in ("/favicon", f"/public/avatar.{suffix}"):
        found = await get(chat.url + address)
        assert found.content == content
        assert found.headers["content-type"] == kind
    for theme in ("light", "dark"):
        logo = (await get(f"{chat.url}/logo?theme={theme}")).text
        assert f"data:{kind};base64," in logo
        assert ">Fleet Chat</text>" in logo
    page = (await get(chat.url)).text
    assert f'"--primary": "{shades("#ffff00")["light"].color}"' in page
    assert f"/public/avatar.{suffix}" in page
