"""What people read of a notice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gpufleet_alert.notice import Notice
from gpufleet_alert.redact import clean

# WeCom takes 2048 bytes, title included; apprise would cut what is longer, or split it.
MAX_BYTES = 2000
_LINE_BYTES = 240
_WHAT_BYTES = 400
_CUT = "…"

_TITLES = {
    "restarted": "{name} failed and is being restarted",
    "hang_killed": "{name} hung, was ended and is being restarted",
    "canary_failed": "{name} gives a wrong answer to its canary",
    "recovered": "{name} works again",
    "gave_up": "{name} is down and stays down",
}
_NEXT = {
    "restarted": "wait for the notice that it works again; if none comes, see {page}",
    "hang_killed": "wait for the notice that it works again; if none comes, see {page}",
    "canary_failed": "it goes on serving: ask it something yourself, see {page}",
    "recovered": "nothing; {page} says how to find the cause",
    "gave_up": "find the cause in the lines below, then"
    " systemctl reset-failed {unit} && systemctl start {unit}; see {page}",
}


@dataclass(frozen=True)
class Message:
    """`kind` is the notice's, or `test`."""

    kind: str
    title: str
    body: str


def compose(notice: Notice, host: str, left_out: int, lines: list[str]) -> Message:
    """Title and body of at most MAX_BYTES together; of `lines` the last ones that fit."""
    name = clip(notice.name, 100)
    unit = clip(notice.unit, 120)
    title = f"{clip(host, 100)}: {_TITLES[notice.kind].format(name=name)}"
    page = f"docs/incidents/{notice.kind}.md"
    head = [
        f"What: {clip(clean(notice.what), _WHAT_BYTES) or 'nothing more is known'}",
        f"Unit: {unit}",
        f"Since: {local_time(notice.since)}",
        f"Restarts so far: {notice.restarts}",
    ]
    if left_out:
        head.append(f"Not sent before this one, being of the same sort: {left_out}")
    head.append(f"Next: {_NEXT[notice.kind].format(unit=unit, page=page)}")
    room = MAX_BYTES - _size(title, *head, "Last lines:")
    fitting: list[str] = []
    for line in (clip(line, _LINE_BYTES) for line in reversed(lines)):
        room -= _size(line)
        if room < 0:
            break
        fitting.insert(0, line)
    tail = ["Last lines:", *fitting] if fitting else []
    return Message(notice.kind, title, "\n".join([*head, *tail]))


def test_message(host: str) -> Message:
    """The message of `llm-alert test`."""
    return Message(
        "test",
        f"{host}: test of the alerts",
        f"Sent {local_time(datetime.now().timestamp())}. Alerts of {host} arrive here.",
    )


def local_time(at: float) -> str:
    """Unix seconds as the host's local time with its offset from UTC."""
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")


def clip(text: str, size: int) -> str:
    """`text` cut to `size` bytes of UTF-8."""
    content = text.encode(errors="replace")
    if len(content) <= size:
        return content.decode()
    return content[: size - len(_CUT.encode())].decode(errors="ignore") + _CUT


def _size(*lines: str) -> int:
    # apprise joins title and body by two bytes, and JSON may write a line's end as two.
    return sum(len(line.encode(errors="replace")) + 2 for line in lines)
