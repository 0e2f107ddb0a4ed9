"""The writable directory from which Chainlit serves: rebuilt at each start from our own assets."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
from pathlib import Path
from string import Template

from gpufleet_chat.attachments import MAX_FILES
from gpufleet_chat.login_texts import write_translations
from gpufleet_chat.looks import Logo, read_logo, shades
from gpufleet_chat.messages import Messages
from gpufleet_chat.settings import Settings

ASSETS = Path(__file__).parent / "assets"
# Browser tags per welcome text; Chainlit looks for the exact tag and falls back to chainlit.md.
WELCOME_TAGS = {
    "en": ("en", "en-US", "en-GB"),
    "zh-CN": ("zh", "zh-CN", "zh-TW", "zh-HK", "zh-SG"),
}
LOGO_COLORS = {"light": "#111827", "dark": "#f3f4f6"}
PAGE_TEXTS = "page."
_FOREIGN_LINK = re.compile(r"<link\b[^>]*\bhref=\"https?://[^>]*>\s*")


def prepare(settings: Settings) -> Path:
    """Build the directory and return it; an older one is replaced.

    It holds .chainlit/config.toml, the texts of Chainlit's page with those of our login, the
    welcome texts, public/, and build/: Chainlit's own pages without their links to foreign hosts.
    Chainlit adds .files.
    """
    root = Path(settings.state_directory) / "app_root"
    if root.exists():
        shutil.rmtree(root)
    logo = read_logo(Path(settings.logo_path)) if settings.logo_path else None
    values = {
        "title": settings.title,
        "root_path": settings.root_path,
        "session_keep_seconds": str(settings.session_keep_seconds),
        "login_session_seconds": str(settings.login_session_hours * 3600),
        "upload_enabled": str(settings.upload_max_mib > 0).lower(),
        # Chainlit takes no bound of 0.
        "upload_max_mib": str(max(1, settings.upload_max_mib)),
        "max_files": str(MAX_FILES),
        # It knows no "system" here; the adapter sets it.
        "theme": "dark" if settings.theme == "dark" else "light",
        "avatar": f"avatar{logo.suffix if logo else '.svg'}",
    }
    (root / ".chainlit").mkdir(parents=True)
    _write(root / ".chainlit" / "config.toml", _render(ASSETS / "config.toml", values))
    translations = _chainlit() / "translations"
    write_translations(translations, root / ".chainlit" / "translations", Messages())
    for language, tags in WELCOME_TAGS.items():
        text = _render(ASSETS / "welcome" / f"{language}.md", values)
        for tag in tags:
            _write(root / f"chainlit_{tag}.md", text)
    shutil.copyfile(root / "chainlit_en.md", root / "chainlit.md")
    _write_public(root / "public", settings, logo)
    _copy_build(root / "build", values["avatar"])
    return root


def without_foreign_links(html: str) -> str:
    """The page without any link element that names another host."""
    return _FOREIGN_LINK.sub("", html)


def chainlit_pages() -> Path:
    """Where Chainlit's own pages lie."""
    return _chainlit() / "frontend" / "dist"


def _chainlit() -> Path:
    """Where Chainlit lies; found without importing it, for it reads its root then."""
    spec = importlib.util.find_spec("chainlit")
    if spec is None or spec.origin is None:
        raise RuntimeError("Chainlit is not installed; use the venv of this release")
    return Path(spec.origin).parent


def _write_public(public: Path, settings: Settings, logo: Logo | None) -> None:
    public.mkdir()
    for source in sorted((ASSETS / "public").iterdir()):
        # Contents only: the sources belong to root and may be read-only.
        shutil.copyfile(source, public / source.name)
    shade = shades(settings.primary_color)
    colors = {
        f"{name}_{theme}": value
        for theme in ("light", "dark")
        for name, value in (("primary", shade[theme].color), ("text", shade[theme].text))
    }
    _write(public / "theme.json", _render(ASSETS / "theme.json", colors))
    _write(public / "values.js", _page_values(settings))
    own = _render(ASSETS / "mark.svg", {"color": shade["light"].hexadecimal})
    mark = logo or Logo(".svg", own.encode())
    for name in ("avatar", "favicon"):
        (public / f"{name}{mark.suffix}").write_bytes(mark.content)
    width = str(48 + sum(_room(character) for character in settings.title))
    for theme, color in LOGO_COLORS.items():
        values = {"title": settings.title, "color": color, "width": width, "mark": _data_url(mark)}
        _write(public / f"logo_{theme}.svg", _render(ASSETS / "logo.svg", values))


def _page_values(settings: Settings) -> str:
    """The module through which the page's scripts know the settings and their texts."""
    messages = Messages()
    texts = {
        language: {
            key.removeprefix(PAGE_TEXTS): messages.text(key, language, most="{most}")
            for key in sorted(messages.keys(language))
            if key.startswith(PAGE_TEXTS)
        }
        for language in messages.languages
    }
    values = {"title": settings.title, "most": settings.message_max_chars, "texts": texts}
    return f"export default {json.dumps(values, ensure_ascii=False, indent=1)};\n"


def _data_url(picture: Logo) -> str:
    kind = {".svg": "svg+xml", ".png": "png"}[picture.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(picture.content).decode()}"


def _room(character: str) -> int:
    """Pixels that a character of the logo takes at most, in any of its fonts."""
    if ord(character) > 0x2E80 or character in "mwMW@%":
        return 23
    return 18 if character.isupper() else 15


def _copy_build(build: Path, avatar: str) -> None:
    pages = chainlit_pages()
    (build / "assets").mkdir(parents=True)
    index = (pages / "index.html").read_text(encoding="utf-8")
    # Its scripts are megabytes: until they run, the page need not be blank.
    loading = f'<div id="root"><img id="loading" src="/public/{avatar}" alt=""></div>'
    index = without_foreign_links(index).replace('<div id="root"></div>', loading)
    _write(build / "index.html", index)
    for source in sorted((pages / "assets").iterdir()):
        # Source maps are half the size and of no use to a person.
        if source.suffix != ".map":
            shutil.copyfile(source, build / "assets" / source.name)


def _render(path: Path, values: dict[str, str]) -> str:
    return Template(path.read_text(encoding="utf-8")).substitute(values)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
