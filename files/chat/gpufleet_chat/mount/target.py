"""The file that Chainlit loads, under no module name, hence without any code of its own."""

from __future__ import annotations

import gpufleet_chat.chainlit_app as adapter
import gpufleet_chat.chainlit_login as login

__all__ = ["adapter", "login"]
