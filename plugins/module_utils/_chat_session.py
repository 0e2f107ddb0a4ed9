# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session of the chat for a check, where people have to log in.

Chainlit's sessions are JSON Web Tokens (RFC 7519) signed with HMAC-SHA-256. Whoever has the secret
that signs them may chat in the name that no person can have; the chat keeps nothing of that.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

# The chat knows this name, too: gpufleet_chat/logins.py.
PROBE_NAME = "gpufleet probe"


def sign_session(secret: str, seconds: float) -> str:
    """Return the value of the cookie ``access_token`` for a session that ends in ``seconds``."""
    now = int(time.time())
    header: dict[str, object] = {"alg": "HS256", "typ": "JWT"}
    claims: dict[str, object] = {
        "identifier": PROBE_NAME,
        "display_name": None,
        "metadata": {},
        "iat": now,
        "exp": now + max(1, int(seconds)),
    }
    signed = ".".join(_encoded(part) for part in (header, claims))
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_base64(signature)}"


def _encoded(document: dict[str, object]) -> str:
    return _base64(json.dumps(document, separators=(",", ":")).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
