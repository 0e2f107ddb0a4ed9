# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Are certificate and key of the gateway a pair, valid now, and for the name of the site?"""

from __future__ import annotations

import ssl
import time
from pathlib import Path

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    RunCommand,
    Seen,
)

CERTIFICATE = "nginx_tls_certificate"
KEY = "nginx_tls_certificate_key"
_NAME = "nginx_server_name"
_DAY = 24 * 3600
_SOON = 7 * _DAY


def check_certificate(
    run_command: RunCommand, certificate: str, key: str, server_name: str
) -> Seen:
    """Check the two files of the host; `server_name` is `_` where any name is served."""
    unreadable = [
        finding
        for variable, path in ((CERTIFICATE, certificate), (KEY, key))
        for finding in _unreadable(variable, path)
    ]
    if unreadable:
        return Seen("unreadable", unreadable)
    broken = _broken_pair(certificate, key)
    if broken:
        return Seen("cannot be loaded", [broken])
    return _check_dates_and_name(run_command, certificate, server_name)


def _unreadable(variable: str, path: str) -> list[Finding]:
    try:
        with Path(path).open("rb") as stream:
            stream.read(1)
    except OSError as error:
        remedy = f"Bring the file to this host, or correct {variable}."
        return [Finding(variable, f"{path} cannot be read: {error.strerror}.", remedy)]
    return []


def _broken_pair(certificate: str, key: str) -> Finding | None:
    """What OpenSSL says against loading the pair, as nginx will load it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asked = []

    def no_passphrase() -> str:
        asked.append(key)
        return ""

    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except ssl.SSLError as error:
        if asked:
            return Finding(
                KEY,
                f"{key} is protected by a passphrase, which nginx cannot ask for.",
                f"Take it off: openssl pkey -in {key} -out NEW, mode 0600.",
            )
        if error.reason == "KEY_VALUES_MISMATCH":
            return Finding(
                KEY,
                f"{key} is not the key of {certificate}.",
                "Bring the two files that were issued together; the certificate of the site comes "
                "first in its file, before those of its chain.",
            )
        return Finding(
            CERTIFICATE,
            f"{certificate} and {key} cannot be loaded: {error.reason or error}.",
            f"Both must be PEM: openssl x509 -in {certificate}, and openssl pkey -in {key}, tell "
            "more.",
        )
    return None


def _check_dates_and_name(run_command: RunCommand, certificate: str, server_name: str) -> Seen:
    names = [name for name in server_name.split() if name != "_" and name[0] not in "*~."]

    def show(*what: str) -> str:
        command = ["openssl", "x509", "-in", certificate, "-noout", *what]
        _status, output, _errors = run_command(command, handle_exceptions=False)
        return output

    try:
        dates = show("-startdate", "-enddate")
        wrong = [name for name in names if "does NOT match" in show("-checkhost", name)]
    except FileNotFoundError:
        missing = "The program openssl is missing, with which certificates are read."
        return Seen("not read", [Finding(CERTIFICATE, missing, "apt-get install openssl")])
    values = dict(line.split("=", 1) for line in dates.splitlines() if "=" in line)
    start, end = (ssl.cert_time_to_seconds(values[name]) for name in ("notBefore", "notAfter"))
    seen = Seen(f"valid until {values['notAfter']}")
    left = end - time.time()
    if left < 0:
        seen.findings.append(
            Finding(
                CERTIFICATE,
                f"{certificate} expired on {values['notAfter']}.",
                "Renew it, and bring certificate and key to this host.",
            )
        )
    elif left < _SOON:
        seen.text += f", which is in {left / _DAY:.0f} days: renew it"
    if start > time.time():
        seen.findings.append(
            Finding(
                CERTIFICATE,
                f"{certificate} is valid only from {values['notBefore']} on.",
                "Set this host's clock if it is wrong (date), else use a certificate valid now.",
            )
        )
    for name in wrong:
        seen.findings.append(
            Finding(
                _NAME,
                f"{certificate} is not for the name {name}.",
                f"Correct {_NAME}, or have a certificate issued for it; what it is for: "
                f"openssl x509 -in {certificate} -noout -ext subjectAltName",
            )
        )
    return seen
