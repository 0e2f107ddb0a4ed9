# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server over HTTP the way our tools will; say exactly what stands in the way."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    listed,
)

# Seconds for each step of a connection, and for all requests of a host together.
STEP_SECONDS = 5.0
ALL_SECONDS = 15.0
_REDIRECTS = 5
# Debian's and Ubuntu's copy of the authorities that uv and the hubs' tools bring themselves.
MOZILLA = Path("/usr/share/ca-certificates/mozilla")
# Comes with the package ca-certificates, which the roles install.
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_HOSTNAME_MISMATCH = 62
_IP_MISMATCH = 64
_OUT_OF_DATE = (9, 10)


@dataclass(frozen=True)
class Route:
    """The way to a server, as the variables ROLE_proxy and ROLE_ca_bundle say.

    Without a bundle, a client with `own_authorities` trusts those of Mozilla that it brings, and
    not what this host trusts besides.
    """

    role: str
    proxy: str = field(default="", repr=False)
    ca_bundle: str = ""
    own_authorities: bool = True


@dataclass(frozen=True)
class Answer:
    """What a server answered: any status is an answer. Names of headers are in small letters."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class NotAskedError(Exception):
    """The way cannot be tried from here, which is no reason to refuse: the text says why."""


class Unreachable(Exception):
    """No answer: the finding says where on the way it ended."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.problem)
        self.finding = finding


def shown(url: str) -> str:
    """A URL without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def get(
    route: Route,
    url: str,
    variable: str,
    headers: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    limit: int = 0,
) -> Answer:
    """Ask for `url` and return the answer with at most `limit` bytes of its body.

    `variable` holds the address; `secrets` are headers that no other server gets to see. Raises
    Unreachable.
    """
    first = urlsplit(url)
    for _hop in range(_REDIRECTS):
        parts = urlsplit(url)
        own = dict(headers or {})
        if (parts.scheme, parts.netloc) == (first.scheme, first.netloc):
            own.update(secrets or {})
        answer = _ask(route, parts, variable, own, limit)
        if answer.status not in (301, 302, 303, 307, 308):
            return answer
        url = urljoin(url, answer.headers.get("location", ""))
    raise Unreachable(
        Finding(
            variable,
            f"{shown(first.geturl())} leads in a circle.",
            f"Open it in a browser, and correct {variable}.",
        )
    )


def refusal(answer: Answer, variable: str) -> Finding:
    """The finding for an answer that is no success."""
    where = f"{shown(answer.url)} answers with status {answer.status}"
    if answer.status == http.client.PROXY_AUTHENTICATION_REQUIRED:
        remedy = "Put user and password into the proxy's address."
    elif answer.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        remedy = f"Check that this host may ask there, and the user and password in {variable}."
    elif answer.status >= http.client.INTERNAL_SERVER_ERROR:
        remedy = f"Wait until the server is well again, or set {variable} to another one."
    else:
        remedy = f"Correct {variable}."
    return Finding(variable, f"{where}.", remedy)


Result = Union[Any, Exception]


def failure(error: Exception, url: str, variable: str) -> Finding | None:
    """The finding for a job of `in_parallel` that raised `error`; None where none is meant."""
    if isinstance(error, NotAskedError):
        return None
    if isinstance(error, Unreachable):
        return error.finding
    if isinstance(error, TimeoutError):
        problem, remedy = (
            f"{shown(url)} gave no answer: {error}.",
            f"Look why, or correct {variable}.",
        )
        return Finding(variable, problem, remedy)
    raise error


def in_parallel(
    jobs: Mapping[str, Callable[[], Any]], seconds: float = ALL_SECONDS
) -> dict[str, Result]:
    """Run all jobs at the same time; return by name what each returned or raised.

    A job that is not done in time has raised TimeoutError.
    """
    results: dict[str, Result] = {
        name: TimeoutError(f"no end within {seconds:.0f} s") for name in jobs
    }

    def work(name: str) -> None:
        try:
            results[name] = jobs[name]()
        except Exception as error:
            results[name] = error

    # Daemons: a resolver that hangs must not keep the module from ending.
    threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in jobs]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(results)


def trust(route: Route) -> ssl.SSLContext:
    """The authorities that our client trusts on this route.

    Where this host has none yet, nothing can be verified, and nothing is. Raises Unreachable when
    the bundle is missing or holds none.
    """
    bundle = route.ca_bundle or os.environ.get("SSL_CERT_FILE", "")
    if bundle == SYSTEM_BUNDLE and not Path(bundle).exists():
        return _unverified()
    if bundle:
        try:
            return ssl.create_default_context(cafile=bundle)
        except OSError as error:  # ssl.SSLError is one
            variable = f"{route.role}_ca_bundle"
            missing = isinstance(error, FileNotFoundError)
            raise Unreachable(
                Finding(
                    variable,
                    f"There is no file {bundle}."
                    if missing
                    else f"{bundle} holds no certificate authorities (PEM).",
                    f"Bring your certificate authorities to the host, or correct {variable}.",
                )
            ) from error
    if not route.own_authorities or os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for file in sorted(MOZILLA.glob("*.crt")):
        context.load_verify_locations(cafile=str(file))
    return context if context.cert_store_stats()["x509_ca"] else _unverified()


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _ask(
    route: Route, parts: SplitResult, variable: str, headers: Mapping[str, str], limit: int
) -> Answer:
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreachable(
            Finding(
                variable,
                f"{shown(parts.geturl())} is no http or https address.",
                f"Correct {variable}.",
            )
        )
    proxy = _proxy(route, parts)
    connection, target, more = _connection(route, parts, proxy)
    try:
        connection.connect()
        connection.request(
            "GET",
            target,
            headers={"User-Agent": "gpufleet", **more, **_authorization(parts), **headers},
        )
        response = connection.getresponse()
        return Answer(
            url=parts.geturl(),
            status=response.status,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=response.read(limit) if limit else b"",
        )
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(_explain(error, route, parts, proxy, variable)) from error
    finally:
        connection.close()


def _connection(
    route: Route, parts: SplitResult, proxy: SplitResult | None
) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """Connection to the server or its proxy, what to ask for there, and headers for the proxy."""
    tls = parts.scheme == "https"
    near = proxy or parts
    host = near.hostname or ""
    port = near.port or (80 if proxy or not tls else 443)
    connection = (
        http.client.HTTPSConnection(host, port, timeout=STEP_SECONDS, context=trust(route))
        if tls
        else http.client.HTTPConnection(host, port, timeout=STEP_SECONDS)
    )
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    if not proxy:
        return connection, target, {}
    identity = {f"Proxy-{name}": value for name, value in _authorization(proxy).items()}
    if tls:
        connection.set_tunnel(parts.hostname or "", parts.port or 443, headers=identity)
        return connection, target, {}
    return connection, f"http://{_endpoint(parts)}{target}", identity


def _proxy(route: Route, parts: SplitResult) -> SplitResult | None:
    """The proxy on the way, from the route or from the environment."""
    host = parts.hostname or ""
    if urllib.request.proxy_bypass(host):
        return None
    address = route.proxy or urllib.request.getproxies().get(parts.scheme, "")
    if not address:
        return None
    proxy = urlsplit(address if "://" in address else f"http://{address}")
    variable = f"{route.role}_proxy"
    if proxy.scheme.startswith("socks"):
        raise Unreachable(
            Finding(
                variable,
                f"The proxy {_endpoint(proxy)} is a SOCKS proxy, which pip and hf cannot use.",
                f"Name an HTTP proxy in {variable}.",
            )
        )
    if proxy.scheme != "http":
        raise NotAskedError(f"not asked: the way to the proxy {_endpoint(proxy)} is {proxy.scheme}")
    return proxy


def _authorization(parts: SplitResult) -> dict[str, str]:
    """Basic authorization with the user and password of an address that has them."""
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _endpoint(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else f"{parts.hostname}"
    return f"{host}:{parts.port}" if parts.port else host


def _explain(
    error: Exception, route: Route, parts: SplitResult, proxy: SplitResult | None, variable: str
) -> Finding:
    """Say what `error` means, whose fault it is, and what to do."""
    proxy_variable, bundle = f"{route.role}_proxy", f"{route.role}_ca_bundle"
    far = _endpoint(parts)
    if isinstance(error, ssl.SSLError):
        return _certificate(error, far, variable, bundle)
    if isinstance(error, OSError) and "Tunnel connection failed" in str(error):
        said = str(error).split("failed: ", 1)[1]
        return Finding(
            proxy_variable,
            f"The proxy {_endpoint(proxy or parts)} refuses the way to {far}: {said}.",
            f"Let the proxy allow it, or put user and password into {proxy_variable}.",
        )
    near = _endpoint(proxy) if proxy else far
    who = f"The proxy {near}" if proxy else near
    concerned = proxy_variable if proxy else variable
    ways = [f"Correct {concerned}"]
    proxied = [] if proxy else [f"set {proxy_variable} where a proxy leads there"]
    if isinstance(error, socket.gaierror):
        name = near.rsplit(":", 1)[0]
        return Finding(
            concerned,
            f"{who} cannot be reached: its name is unknown to this host ({error.strerror}).",
            f"{listed([*ways, f'mend the DNS (getent hosts {name})', *proxied], 'or')}.",
        )
    if isinstance(error, ConnectionRefusedError):
        return Finding(
            concerned,
            f"{who} refuses the connection.",
            f"{listed([*ways, 'start what should listen there', *proxied], 'or')}.",
        )
    # Python 3.9 has a class of its own for this.
    if isinstance(error, (TimeoutError, socket.timeout)):
        return Finding(
            concerned,
            f"{who} does not answer within {STEP_SECONDS:.0f} seconds.",
            f"{listed([*ways, 'open the way in the firewall', *proxied], 'or')}.",
        )
    return Finding(
        concerned,
        f"{who} cannot be reached: {error or type(error).__name__}.",
        f"{listed([*ways, *proxied], 'or')}.",
    )


def _certificate(error: ssl.SSLError, far: str, variable: str, bundle: str) -> Finding:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return Finding(
            variable,
            f"{far} does not speak TLS as it should: {error.reason or error}.",
            f"Correct {variable}: https or http, and the port.",
        )
    if error.verify_code in (_HOSTNAME_MISMATCH, _IP_MISMATCH):
        remedy = f"Write the name that stands in its certificate into {variable}."
    elif error.verify_code in _OUT_OF_DATE:
        remedy = "Set this host's clock if it is wrong (date), else let the server's be renewed."
    else:
        remedy = f"Name the file of your certificate authorities in {bundle}."
    return Finding(
        variable, f"The certificate of {far} is refused: {error.verify_message}.", remedy
    )
