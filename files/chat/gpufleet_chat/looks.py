"""Colours and logo of one's own: checked, and kept readable. The preflight reads this file too."""

from __future__ import annotations

import colorsys
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

THEMES = ("system", "light", "dark")
# What Chainlit's pages are made of, at the place where a colour is hardest to read.
BACKGROUNDS = {"light": (242, 242, 242), "dark": (46, 46, 46)}
# WCAG 2, level AA.
CONTRAST = 4.5
LOGO_MAX_BYTES = 256 * 1024
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_PNG = b"\x89PNG\r\n\x1a\n"
_SVG_SPACE = "{http://www.w3.org/2000/svg}"
_LINKS = ("href", "src", "{http://www.w3.org/1999/xlink}href")
_FORBIDDEN_ELEMENTS = frozenset(
    [
        "script",
        "foreignobject",
        "iframe",
        "embed",
        "object",
        "audio",
        "video",
        "handler",
        "listener",
    ]
)
_EMBEDDED_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*")
# A style may name a part of the file, by url(#name), and nothing else; escapes could hide more.
_FOREIGN_STYLE = re.compile(
    r"url\(\s*['\"]?\s*(?![#'\"\s])|@import|//|\\|javascript:", re.IGNORECASE
)


class LooksError(ValueError):
    """A colour or logo cannot be used; problem says what is wrong, remedy what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Shade:
    """A colour for what can be pressed, and one for the text upon it, as CSS writes HSL."""

    color: str
    text: str
    hexadecimal: str


@dataclass(frozen=True)
class Logo:
    """A checked picture; suffix is .svg or .png."""

    suffix: str
    content: bytes


def check_color(color: str) -> None:
    """Raise LooksError unless it is six hexadecimal digits after a #."""
    if not _COLOR.fullmatch(color):
        raise LooksError(f'"{color}" is no colour.', 'Write six hexadecimal digits, "#0f766e".')


def shades(color: str) -> dict[str, Shade]:
    """The colour for the themes light and dark: made darker or lighter until it can be read."""
    check_color(color)
    return {
        "light": _shade(color, "light", step=-1, text="0 0% 100%"),
        "dark": _shade(color, "dark", step=1, text="0 0% 9%"),
    }


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """The contrast of two colours, from 1 to 21, as WCAG 2 computes it."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def read_logo(path: Path) -> Logo:
    """Read a picture; raises LooksError where it is too large, no SVG or PNG, or not harmless."""
    try:
        with path.open("rb") as file:
            content = file.read(LOGO_MAX_BYTES + 1)
    except OSError as error:
        raise LooksError(
            f"{path} cannot be read: {error.strerror}.", "Name a readable SVG or PNG file."
        ) from None
    if len(content) > LOGO_MAX_BYTES:
        raise LooksError(
            f"{path} is larger than {LOGO_MAX_BYTES // 1024} KiB, which every page would load.",
            "Make it smaller: 128 pixels are enough.",
        )
    if content.startswith(_PNG):
        return Logo(".png", content)
    _check_svg(path, content)
    return Logo(".svg", content)


def _shade(color: str, theme: str, step: int, text: str) -> Shade:
    channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    hue, light, saturation = colorsys.rgb_to_hls(*channels)
    degrees, part = round(hue * 360), round(saturation * 100)
    percent = round(light * 100)
    # Rounded first: what is measured is what the page gets.
    while contrast(rgb := _rgb(degrees, part, percent), BACKGROUNDS[theme]) < CONTRAST:
        percent += step
    return Shade(f"{degrees} {part}% {percent}%", text, "#{:02x}{:02x}{:02x}".format(*rgb))


def _rgb(degrees: int, part: int, percent: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(degrees / 360, percent / 100, part / 100)
    return round(red * 255), round(green * 255), round(blue * 255)


def _luminance(rgb: tuple[int, int, int]) -> float:
    red, green, blue = (_linear(channel / 255) for channel in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


def _check_svg(path: Path, content: bytes) -> None:
    remedy = "Export it as plain SVG with all its parts inside, or as PNG."
    # Entities can name foreign files and grow without end, and a style sheet can be anywhere.
    if re.search(rb"<!(DOCTYPE|ENTITY)|<\?xml-stylesheet", content, re.IGNORECASE):
        raise LooksError(f"{path} has a DOCTYPE, an entity or a style sheet.", remedy)
    try:
        # In another encoding the search above would have seen nothing.
        root = ElementTree.fromstring(content.decode("utf-8"))  # noqa: S314 - no entities
    except (ElementTree.ParseError, ValueError):
        raise LooksError(f"{path} is neither a PNG nor an SVG in UTF-8.", remedy) from None
    if root.tag != f"{_SVG_SPACE}svg":
        raise LooksError(f"{path} is XML, but no SVG.", remedy)
    for element in root.iter():
        found = _harm(element)
        if found:
            raise LooksError(f"{path} holds {found}, which a logo may not.", remedy)


def _harm(element: ElementTree.Element) -> str | None:
    """What could run or load something, in words."""
    name = str(element.tag).rpartition("}")[2].lower()
    if name in _FORBIDDEN_ELEMENTS:
        return f"the element {name}"
    if name == "style" and _FOREIGN_STYLE.search("".join(element.itertext())):
        return "a style that names another file"
    for attribute, value in element.attrib.items():
        if attribute.rpartition("}")[2].lower().startswith("on"):
            return f"the script {attribute}"
        if attribute in _LINKS and not (value.startswith("#") or _EMBEDDED_IMAGE.fullmatch(value)):
            return f"a link to {value[:60]}"
        # An animation sets another attribute to a value of its own.
        is_plain = not attribute.startswith("{") and attribute not in _LINKS
        if is_plain and _FOREIGN_STYLE.search(value):
            return f"{attribute} with a foreign reference"
    return None
