"""One log line per event, in key=value form, never with the text of a conversation."""

from __future__ import annotations

import json
import logging
import sys


class LineFormatter(logging.Formatter):
    """Puts a record, its traceback included, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"level={record.levelname.lower()} logger={record.name} {record.getMessage()}"
        if record.exc_info:
            line += f" traceback={json.dumps(self.formatException(record.exc_info))}"
        return line.replace("\n", "\\n")


def event(name: str, **fields: object) -> str:
    """The message of a log line: event=NAME and its fields, quoted where needed."""
    return " ".join([f"event={name}", *(f"{key}={_text(value)}" for key, value in fields.items())])


def configure() -> None:
    """Send every logger of the process to standard error through the one formatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # A line per probe and per socket is noise, and so is a warning per missing translation.
    for noisy in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("chainlit").setLevel(logging.ERROR)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    plain = text.isprintable() and not set(text) & set(' "=')
    return text if text and plain else json.dumps(text)
