"""The text of a file that a person sends along, or a plain reason why it cannot be read."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import charset_normalizer

from gpufleet_chat import pdf_text

# More than the context of most models; the rest is refused by the model itself.
MAX_CHARACTERS = 1_000_000
MAX_FILES = 5
PDF_SECONDS = 30.0
PDF_READER = pdf_text.__file__
# A PDF can keep a processor busy for as long as it is let; others shall not wait for that.
_pdf_readers = asyncio.Semaphore(2)
_PDF_FAILURES = {
    pdf_text.TOO_LONG: "file.too_long",
    pdf_text.ENCRYPTED: "file.encrypted",
    pdf_text.NO_TEXT: "file.no_text",
}
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class File:
    """A file as it lies on this host, with the name that the person knows."""

    name: str
    path: Path


# One that is here no more, not even its name.
LOST = File("", Path())


class FileRefused(Exception):
    """A file cannot be used; the message is the key of the text that says why."""

    def __init__(self, key: str, name: str) -> None:
        super().__init__(key)
        self.key = key
        self.name = name


async def with_files(question: str, files: Sequence[File], max_mib: int) -> str:
    """The question with the text of each file before it, in marked blocks; raises FileRefused."""
    if len(files) > MAX_FILES:
        raise FileRefused("file.too_many", files[MAX_FILES].name)
    blocks = []
    left = MAX_CHARACTERS
    for file in files:
        if file is LOST:
            raise FileRefused("file.lost", file.name)
        text = await _read(file, max_mib)
        left -= len(text)
        if left < 0:
            raise FileRefused("file.too_long", file.name)
        blocks.append(_block(file.name, text))
    return "\n\n".join([*blocks, question])


def _block(name: str, text: str) -> str:
    plain = "".join(c for c in name if c.isprintable() and c not in '<>"&')
    # The end of the block stays the only one.
    return f'<file name="{plain}">\n{text.replace("</file>", "</ file>").strip()}\n</file>'


async def _read(file: File, max_mib: int) -> str:
    if max_mib == 0:
        raise FileRefused("file.off", file.name)
    try:
        size = file.path.stat().st_size
        if size > max_mib * 1024 * 1024:
            raise FileRefused("file.too_large", file.name)
        with file.path.open("rb") as stream:
            is_pdf = stream.read(5) == b"%PDF-"
        text = await _pdf(file) if is_pdf else await asyncio.to_thread(_plain, file)
    except OSError:
        raise FileRefused("file.gone", file.name) from None
    if not text.strip():
        raise FileRefused("file.no_text", file.name)
    return text


def _plain(file: File) -> str:
    data = file.path.read_bytes()
    try:
        if data.startswith(_UTF_16_MARKS):
            return data.decode("utf-16")
        if b"\0" in data:
            raise FileRefused("file.not_text", file.name)
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FileRefused("file.not_text", file.name) from None
    # Such as the GB 18030 of many Chinese files.
    guess = charset_normalizer.from_bytes(data).best()
    if guess is None:
        raise FileRefused("file.not_text", file.name)
    return str(guess)


async def _pdf(file: File) -> str:
    """In a process of its own, which can be ended: a PDF may be made to hold up its reader."""
    async with _pdf_readers:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            PDF_READER,
            str(file.path),
            str(MAX_CHARACTERS),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(PDF_SECONDS):
                output = (await process.communicate())[0]
        except TimeoutError:
            raise FileRefused("file.unreadable", file.name) from None
        finally:
            # Also when the person has stopped it.
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode != 0:
        key = _PDF_FAILURES.get(process.returncode or 0, "file.unreadable")
        raise FileRefused(key, file.name)
    return output.decode()
