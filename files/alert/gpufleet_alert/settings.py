"""settings.json of the release, and the credentials that systemd hands over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Where the unit reads them from; the role writes them.
CREDENTIALS = Path("/etc/gpufleet/credentials")
_DAY = 86400


class SettingsError(Exception):
    """The settings cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class Settings:
    """What the role says; directories of others may be missing."""

    host: str
    keep_days: int
    log_lines: int
    restarts_every_minutes: int
    ca_bundle: Path
    # Where others put their notices, and what the guard tells of incidents that are not over.
    notices: tuple[Path, ...]
    incidents: Path
    # Of this program alone.
    state: Path

    @property
    def keep_seconds(self) -> float:
        """How long a notice waits for a service that does not take it."""
        return self.keep_days * _DAY

    @property
    def own_notices(self) -> Path:
        """Where `gave-up` puts its notices."""
        return self.state / "notices"

    @property
    def spool(self) -> Path:
        """What waits for a service."""
        return self.state / "spool"

    @property
    def sources(self) -> tuple[Path, ...]:
        """Every directory that notices come from."""
        return (*self.notices, self.own_notices)


@dataclass(frozen=True)
class Credentials:
    """URLs of the services, one a line, and the proxy's URL or an empty text."""

    urls: str
    proxy: str


def load_settings(path: Path) -> Settings:
    """Read settings.json; raises SettingsError for a missing key or a wrong type."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Settings(
            host=str(data["host"]),
            keep_days=int(data["keep_days"]),
            log_lines=int(data["log_lines"]),
            restarts_every_minutes=int(data["restarts_every_minutes"]),
            ca_bundle=Path(data["ca_bundle"]),
            notices=tuple(Path(directory) for directory in data["notices"]),
            incidents=Path(data["incidents"]),
            state=Path(data["state"]),
        )
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            f"{path} is not what the role alerting writes ({error!r}); run the role again"
        ) from None


def load_credentials(environment: Mapping[str, str]) -> Credentials:
    """Read alert_urls and alert_proxy; raises SettingsError where they cannot be read."""
    directory = Path(environment.get("CREDENTIALS_DIRECTORY", CREDENTIALS))
    try:
        return Credentials(
            urls=(directory / "alert_urls").read_text(encoding="utf-8"),
            proxy=(directory / "alert_proxy").read_text(encoding="utf-8").strip(),
        )
    except OSError as error:
        raise SettingsError(f"cannot read {error.filename}: {error.strerror}") from None
