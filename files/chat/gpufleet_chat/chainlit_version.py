"""The version of Chainlit that the adapter is written for.

The adapter reaches behind what Chainlit promises, in many places and each with a test. Another
version may differ there without a word, so it is refused until those tests have passed with it.
"""

from __future__ import annotations

from importlib.metadata import version

from gpufleet_chat.settings import SettingsError

KNOWN = "2.12.0"


def require_known_version() -> None:
    """Raise SettingsError where another Chainlit is installed."""
    found = version("chainlit")
    if found != KNOWN:
        raise SettingsError(
            f"Chainlit {found} is installed, and this app is written for {KNOWN}; "
            "install the lock that came with the app"
        )
