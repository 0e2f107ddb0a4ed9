"""python pdf_text.py FILE MAX_CHARACTERS: the text of a PDF on standard output."""

from __future__ import annotations

import contextlib
import resource
import sys

# Exit statuses; 0 is a text, and any other status a file that cannot be read.
TOO_LONG = 3
ENCRYPTED = 4
NO_TEXT = 5
MAX_MEMORY_BYTES = 2 * 1024**3


def main(path: str, most: int) -> int:
    """Write the text of all pages and return the exit status."""
    # Only here: the chat itself imports this module for the statuses.
    import pypdf

    # The unit's filter of system calls may forbid it, and the unit has a limit of its own.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    reader = pypdf.PdfReader(path)
    # Many a PDF is encrypted with an empty password, only against printing.
    if reader.is_encrypted and not reader.decrypt(""):
        return ENCRYPTED
    texts: list[str] = []
    for page in reader.pages:
        texts.append(page.extract_text())
        if sum(map(len, texts)) > most:
            return TOO_LONG
    text = "\n\n".join(texts)
    if not text.strip():
        return NO_TEXT
    # A PDF may hold half a character.
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
