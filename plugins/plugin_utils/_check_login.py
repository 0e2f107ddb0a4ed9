# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has the chat's way to log in all that it needs, as files/chat/gpufleet_chat/ wants it?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_secrets import key_problem
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host

HASH = re.compile(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}")
NAME = re.compile(r"[\w.@+-]{1,128}")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_VARIABLE = re.compile(r"OAUTH_[A-Z0-9_]+|CHAINLIT_URL")
_HYBRID = "OAUTH_AZURE_AD_HYBRID_"
_LONG_ENOUGH = (
    'Give it 16 characters or more, of letters, digits and "._~+/=-", that serve nothing else. '
    "`openssl rand -hex 24` makes one."
)
_HASH_RULE = (
    "Make an argon2id hash of the password: "
    "`cd /opt/gpufleet/chainlit/current && PYTHONPATH=app venv/bin/python -m gpufleet_chat "
    "--hash-password` on a host of the chat."
)


def check_login(host: Host) -> list[Finding]:
    """Findings about the way that is set; what the others need is not looked at."""
    login = host.text("chainlit_login") or "none"
    if login == "none":
        return []
    rules = {"password": _password, "header": _header, "oauth": _oauth}
    found = [*_secret(host, "chainlit_auth_secret", login), *rules.get(login, _nothing)(host)]
    return [Finding(host.name, variable, problem, remedy) for variable, problem, remedy in found]


Problem = tuple[str, str, str]


def _nothing(_host: Host) -> Iterator[Problem]:
    yield from ()


def _secret(host: Host, variable: str, login: str) -> Iterator[Problem]:
    if variable not in host.values:
        return
    secret = host.text(variable)
    if not secret:
        yield variable, f"It is empty, and chainlit_login is {login}.", _LONG_ENOUGH
        return
    problem = key_problem(secret)
    if problem:
        yield variable, problem, _LONG_ENOUGH


def _password(host: Host) -> Iterator[Problem]:
    users = host.items("chainlit_users")
    if not users and "chainlit_users" in host.values:
        yield (
            "chainlit_users",
            "It is empty, and chainlit_login is password: nobody could log in.",
            "Add a user with name and hash. " + _HASH_RULE,
        )
    seen: set[str] = set()
    for path, user in users:
        name = str(user.get("name") or "")
        if not NAME.fullmatch(name):
            yield (
                f"{path}.name",
                "It cannot be the name of a user.",
                "Use letters, digits and . _ @ + -, 128 at most.",
            )
        if name.casefold() in seen:
            yield f"{path}.name", "Another user has this name, but for its case.", "Rename one."
        seen.add(name.casefold())
        if not HASH.fullmatch(str(user.get("hash") or "")):
            yield f"{path}.hash", "It is no argon2id hash.", _HASH_RULE


def _header(host: Host) -> Iterator[Problem]:
    yield from _secret(host, "chainlit_login_secret", "header")
    for variable in ("chainlit_login_header", "chainlit_login_secret_header"):
        if variable in host.values and not HEADER.fullmatch(host.text(variable)):
            yield (
                variable,
                "It is no name of a header that nginx lets through.",
                "Use letters, digits and dashes, as in X-Forwarded-User.",
            )
    name, secret = host.text("chainlit_login_header"), host.text("chainlit_login_secret_header")
    if name.lower() == secret.lower() != "":
        yield (
            "chainlit_login_secret_header",
            "It is the header that names the person, too.",
            "Let the proxy send its secret in a header of its own.",
        )


def _oauth(host: Host) -> Iterator[Problem]:
    variables = host.values.get("chainlit_oauth_environment")
    if variables is not None:
        if not any(str(name).startswith("OAUTH_") for name in variables):
            yield (
                "chainlit_oauth_environment",
                "It names no provider, and chainlit_login is oauth.",
                "Set the variables of one, such as OAUTH_GITHUB_CLIENT_ID and "
                "OAUTH_GITHUB_CLIENT_SECRET.",
            )
        for name, value in variables.items():
            if not _VARIABLE.fullmatch(str(name)) or not isinstance(value, str):
                yield (
                    f"chainlit_oauth_environment.{name}",
                    "It is no variable of a provider with a text.",
                    "Use OAUTH_ variables and CHAINLIT_URL only, and quote numbers and true.",
                )
            elif str(name).startswith(_HYBRID):
                yield (
                    f"chainlit_oauth_environment.{name}",
                    "Nobody could log in: this provider sends people back by a form from its own "
                    "site, which the chat refuses.",
                    "Use the variables OAUTH_AZURE_AD_* instead.",
                )
    if not host.values.get("chainlit_login_oauth_allowed", True):
        yield (
            "chainlit_login_oauth_allowed",
            "It is empty: nobody could log in.",
            'Name people, a domain as in "@example.com", or "*" for everyone whom the provider '
            "knows, which may be the whole world.",
        )
