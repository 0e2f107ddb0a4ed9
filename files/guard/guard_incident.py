# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One incident lasts from a failure until a token again; its notices are files that are sent later.

``incidents/NAME.json`` is there while an incident is open. ``notices/`` holds what people are to
be told; the role ``alerting`` takes it from there. Both live below the unit's STATE_DIRECTORY.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from guard_log import Log

Kind = Literal["restarted", "hang_killed", "canary_failed", "recovered"]
_FIELDS = {"kind": str, "what": str, "since": float, "restarts": int, "invocation": str}


@dataclass(frozen=True)
class Incident:
    """``since`` in Unix seconds; ``what`` is the last failure, ``invocation`` the run of it."""

    kind: Kind
    what: str
    since: float
    restarts: int
    invocation: str


class Incidents:
    """The incidents of one instance. Without a state directory nothing is kept and nobody told."""

    def __init__(self, name: str, log: Log) -> None:
        directory = os.environ.get("STATE_DIRECTORY")
        self._name = name
        self._log = log
        self._directory = Path(directory) if directory else None
        # systemd gives every run of a unit an id of its own.
        self._invocation = os.environ.get("INVOCATION_ID", "")

    @property
    def known(self) -> bool:
        """Whether a failure of this very run is noted already."""
        incident = self._read()
        return incident is not None and bool(self._invocation) and self._is_ours(incident)

    def restarting(self) -> None:
        """Count a restart, where an incident is open."""
        incident = self._read()
        if incident is not None:
            self._write(replace(incident, restarts=incident.restarts + 1))

    def failed(self, kind: Kind, what: str, *, tell: bool = True) -> None:
        """Note a failure of this run; tell people when it begins an incident, and only then."""
        open_one = self._read()
        now = time.time()
        incident = Incident(kind, what, now, 0, self._invocation)
        # A failed canary restarts nothing: what comes after it is news.
        is_news = open_one is None or (open_one.kind == "canary_failed" and kind != open_one.kind)
        if open_one is not None:
            incident = replace(incident, since=open_one.since, restarts=open_one.restarts)
        if open_one is not None and not is_news:
            incident = replace(incident, kind=open_one.kind)
        self._write(incident)
        if is_news and tell:
            self._tell(incident, kind, what, now)

    def recovered(self, how: str, of: Kind | None = None) -> None:
        """Close the incident, where one (of the kind ``of``) is open, and tell people."""
        incident = self._read()
        if incident is None or of not in (None, incident.kind):
            return
        now = time.time()
        what = f"{how}; it had failed for {now - incident.since:.0f} s: {incident.what}"
        self._tell(incident, "recovered", what, now)
        try:
            self._path().unlink(missing_ok=True)
        except OSError as error:  # a disk that became read-only must not fail the gate
            self._log.error(f"{self._path()} cannot be removed: {error.strerror}")

    def _is_ours(self, incident: Incident) -> bool:
        return incident.invocation == self._invocation

    def _path(self) -> Path:
        return (self._directory or Path()) / "incidents" / f"{self._name}.json"

    def _read(self) -> Incident | None:
        if self._directory is None:
            return None
        try:
            document = json.loads(self._path().read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._log.error(f"{self._path()} cannot be read and is made anew: {error}")
            return None
        if isinstance(document, dict) and {k: type(v) for k, v in document.items()} == _FIELDS:
            return Incident(**document)
        self._log.error(f"{self._path()} is not an incident and is made anew")
        return None

    def _write(self, incident: Incident) -> None:
        self._save(self._path(), asdict(incident))

    def _tell(self, incident: Incident, kind: Kind, what: str, now: float) -> None:
        if self._directory is None:
            return
        notice = {
            "kind": kind,
            "unit": f"vllm@{self._name}.service",
            "instance": self._name,
            "what": what,
            "since": incident.since,
            "at": now,
            "restarts": incident.restarts,
        }
        self._save(self._directory / "notices" / f"{int(now * 1e9):020d}-{kind}.json", notice)

    def _save(self, path: Path, document: dict[str, object]) -> None:
        """Write a file whole or not at all; a full disk must not stop the guard."""
        if self._directory is None:
            return
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(exist_ok=True)
                # The alerts' user is of this group, and takes notices away.
                path.parent.chmod(0o770)
            new = path.with_name(f".{path.name}")
            new.write_text(f"{json.dumps(document, sort_keys=True)}\n", encoding="utf-8")
            new.chmod(0o640)
            new.replace(path)
        except OSError as error:
            self._log.error(f"{path} cannot be written: {error.strerror}; nobody will be told")
