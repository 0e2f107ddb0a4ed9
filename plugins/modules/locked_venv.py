#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: locked_venv
short_description: Build one immutable virtual environment from a hash-locked requirements file
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - Builds a virtual environment whose directory is named by the hash of its lock and of the
    interpreter's version. Same lock, same name, nothing to do.
  - It is built beside its final place and moved there when complete, so a half-built environment
    is never used. What an interrupted run left behind is removed by the next one.
attributes:
  check_mode:
    description: Says whether the environment would be built, and changes nothing.
    support: full
  diff_mode:
    description: Shows the path of the environment that would be built.
    support: full
options:
  directory:
    description: Directory on the host that holds the environments.
    type: path
    required: true
  requirements:
    description: Text of the requirements file, every line pinned and hashed.
    type: str
    required: true
  build_constraints:
    description: Text of a hash-locked file with what source-only packages are built with.
    type: str
    default: ""
  python_versions:
    description:
      - Versions of Python that the lock was made for, the preferred one first. Without them any
        will do, and O(python) is needed.
    type: list
    elements: str
  python:
    description:
      - Path of an interpreter, in place of the first of O(python_versions) that is in C(PATH). Its
        own version must be one of them.
    type: path
  uv:
    description: Path of C(uv) on the host. Without it, C(venv) and C(pip) of the interpreter build.
    type: path
  index_url:
    description: Package index, in place of the builder's default.
    type: str
    default: ""
  extra_index_urls:
    description: Further package indexes.
    type: list
    elements: str
    default: []
  find_links:
    description: Directories on the host, or URLs, that hold wheels.
    type: list
    elements: str
    default: []
  offline:
    description:
      - Use O(find_links) alone and no index. Every package of the lock must be there, and for
        source-only packages what they are built with.
    type: bool
    default: false
  ca_bundle:
    description: File of certificate authorities on the host, for indexes behind a company's own.
    type: path
  proxy:
    description: Proxy for the index, such as C(http://proxy.example:3128).
    type: str
    default: ""
  cache:
    description: Cache directory of C(uv).
    type: path
    default: /var/cache/gpufleet/uv
notes:
  - Addresses of indexes and proxies may hold passwords; they reach the builder through its
    environment, never through its arguments.
"""

EXAMPLES = r"""
- name: Build the environment of the chat app
  gpufleet.llm.locked_venv:
    directory: /opt/gpufleet/venvs
    requirements: "{{ lookup('ansible.builtin.file', 'files/locks/chat.txt') }}"
    python_versions: ["3.12", "3.11"]
    uv: /opt/gpufleet/uv/bin/uv
  register: chat_venv
"""

RETURN = r"""
path:
  description: The environment's directory.
  type: str
  returned: always
  sample: /opt/gpufleet/venvs/4f0c2a9be17d3c55
python:
  description: The interpreter that it was, or would be, built with.
  type: str
  returned: always
  sample: /usr/bin/python3.11
seconds:
  description: How long the build took.
  type: float
  returned: when built
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.llm.plugins.module_utils._host_interpreter import (
    InterpreterError,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._locked_environment import (
    environment_name,
    locate,
    runs,
)

REMEDIES: list[tuple[str, str]] = [
    (
        "hash mismatch",
        "the index or wheel directory holds another file than the lock: "
        "renew the lock, or repair the mirror",
    ),
    (
        "No space left on device",
        "free some disk, or let releases and caches live on a larger one",
    ),
    (
        "certificate",
        "the index's certificate is not trusted here: name your CA file in "
        "python_release_ca_bundle",
    ),
    (
        "provided package locations",
        "python_release_offline is set: bring the missing files to a directory of "
        "python_release_find_links",
    ),
    (
        "Failed to read `--find-links` URL",
        "check that this host reaches the addresses of python_release_find_links, or set "
        "python_release_proxy",
    ),
    (
        "Failed to read `--find-links`",
        "a directory of python_release_find_links is missing: bring it to the host, or correct "
        "the variable",
    ),
    (
        "no matching distribution",
        "the index lacks this version: check python_release_index_url, "
        "python_release_extra_index_urls and python_release_find_links",
    ),
    (
        "no version of",
        "the index lacks this version: check python_release_index_url, "
        "python_release_extra_index_urls and python_release_find_links",
    ),
]
UNREACHABLE = (
    "check that this host reaches the package index, or set python_release_index_url, "
    "python_release_find_links or python_release_proxy"
)
# Beside environments a directory may hold other things.
LEFTOVER = re.compile(r"[0-9a-f]{16}(\.old)?\.partial")


class BuildError(Exception):
    """The environment cannot be built; the text says why and what to do."""


def builder_environment(params: dict[str, Any]) -> dict[str, str]:
    """What the builder's environment has, so that no address with a password is in its argv."""
    values = {
        "UV_CACHE_DIR": params["cache"],
        "UV_DEFAULT_INDEX": params["index_url"],
        "UV_INDEX": " ".join(params["extra_index_urls"]),
        "UV_FIND_LINKS": ",".join(params["find_links"]),
        "PIP_NO_INDEX": "1" if params["offline"] else "",
        "PIP_INDEX_URL": params["index_url"],
        "PIP_EXTRA_INDEX_URL": " ".join(params["extra_index_urls"]),
        "PIP_FIND_LINKS": " ".join(params["find_links"]),
        "SSL_CERT_FILE": params["ca_bundle"],
        "PIP_CERT": params["ca_bundle"],
        "HTTPS_PROXY": params["proxy"],
        "HTTP_PROXY": params["proxy"],
    }
    given = {name: value for name, value in values.items() if value}
    return {
        # Deaf to the settings of whoever calls: Python takes an empty one for none.
        **{name: "" for name in os.environ if name.startswith("PYTHON")},
        "UV_NO_CONFIG": "1",
        # Several indexes may hold one name (PyTorch's does): the hashes of the lock decide.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_PYTHON_DOWNLOADS": "never",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **given,
    }


def password_of(address: str) -> str:
    """The password in a URL, or an empty string."""
    return unquote(urlsplit(address).password or "")


def remedy_for(output: str) -> str:
    """What to do about a builder that ended with `output`."""
    lowered = output.lower()
    for sign, remedy in REMEDIES:
        if sign.lower() in lowered:
            return remedy
    return UNREACHABLE


def call(module: AnsibleModule, argv: list[str], environment: dict[str, str]) -> None:
    """Run one step of the build; raises BuildError with the end of its output and a remedy."""
    status, output, errors = module.run_command(
        argv, environ_update=environment, expand_user_and_vars=False
    )
    if status != 0:
        said = f"{output}{errors}".strip()
        raise BuildError(
            "{} ended with {}: {}\nRemedy: {}.".format(
                " ".join(argv[:3]), status, said[-2000:], remedy_for(said)
            )
        )


def build(
    module: AnsibleModule,
    place: Path,
    python: str,
    uv: str | None,
    requirements: str,
    build_constraints: str,
    offline: bool,
    environment: dict[str, str],
) -> None:
    """Build the environment in `place`, bytecode included. Raises BuildError."""
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder, "requirements.txt")
        lock.write_text(requirements)
        if uv is None:
            call(module, [python, "-m", "venv", str(place)], environment)
            pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--no-deps"]
            call(module, [*pip, "--require-hashes", "--requirement", str(lock)], environment)
            return
        call(module, [uv, "venv", "--relocatable", "--python", python, str(place)], environment)
        sync = [uv, "pip", "sync", "--require-hashes", "--compile-bytecode"]
        if offline:
            # UV_OFFLINE would shut out listings in the own network too, and UV_NO_INDEX is unknown.
            sync.append("--no-index")
        if build_constraints:
            constraints = Path(folder, "build-constraints.txt")
            constraints.write_text(build_constraints)
            sync += ["--build-constraints", str(constraints)]
        call(module, [*sync, "--python", str(place / "bin" / "python"), str(lock)], environment)
        # uv leaves the lock that it held, writable by everyone.
        (place / ".lock").unlink(missing_ok=True)


def leftovers(directory: Path) -> list[Path]:
    """What runs that were cut short left, for this or another lock; the caller holds `lock_of`."""
    return [path for path in directory.glob("*.partial") if LEFTOVER.fullmatch(path.name)]


@contextmanager
def lock_of(directory: Path) -> Iterator[None]:
    """Keep other runs from building in `directory` at the same time."""
    with (directory / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> None:
    # Hardened hosts have 027 or 077, and services of other users are to read what is made here.
    os.umask(0o022)
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "requirements": {"type": "str", "required": True},
            "build_constraints": {"type": "str", "default": ""},
            "python_versions": {"type": "list", "elements": "str"},
            "python": {"type": "path"},
            "uv": {"type": "path"},
            "index_url": {"type": "str", "default": "", "no_log": True},
            "extra_index_urls": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "find_links": {"type": "list", "elements": "str", "default": []},
            "offline": {"type": "bool", "default": False},
            "ca_bundle": {"type": "path"},
            "proxy": {"type": "str", "default": "", "no_log": True},
            "cache": {"type": "path", "default": "/var/cache/gpufleet/uv"},
        },
        required_one_of=[("python_versions", "python")],
        supports_check_mode=True,
    )
    params = module.params
    # Directories are no secret, and a URL of them may hold one.
    module.no_log_values.update(filter(None, map(password_of, params["find_links"])))
    directory = Path(params["directory"])

    def name_of(version: str) -> str:
        return environment_name(params["requirements"], params["build_constraints"], version)

    try:
        environment = locate(
            module.run_command,
            directory,
            name_of,
            params["python_versions"] or [],
            params["python"] or "",
        )
    except InterpreterError as error:
        module.fail_json(msg=str(error))
    final, python = environment.place, environment.interpreter.path
    result: dict[str, Any] = {"path": str(final), "python": python, "changed": False}
    if environment.built:
        module.exit_json(**result)
    result["changed"] = True
    result["diff"] = {"before": "", "after": f"{final}\n"}
    if module.check_mode:
        module.exit_json(**result)

    started = time.monotonic()
    partial, broken = (directory / f"{final.name}{end}" for end in (".partial", ".old.partial"))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with lock_of(directory):
            # Another run may have built it meanwhile.
            if not runs(module.run_command, final, environment.interpreter.version):
                for left in leftovers(directory):
                    shutil.rmtree(left, ignore_errors=True)
                try:
                    build(
                        module,
                        partial,
                        python,
                        params["uv"],
                        params["requirements"],
                        params["build_constraints"],
                        params["offline"],
                        builder_environment(params),
                    )
                except BuildError:
                    # Downloads stay in the cache; half an environment would only hold disk.
                    shutil.rmtree(partial, ignore_errors=True)
                    raise
                partial.chmod(0o755)
                # Else a power cut may leave an environment with empty files.
                os.sync()
                if final.exists():
                    final.rename(broken)
                partial.rename(final)
                shutil.rmtree(broken, ignore_errors=True)
    except BuildError as error:
        module.fail_json(msg=str(error), **{**result, "changed": False, "diff": {}})
    module.exit_json(seconds=round(time.monotonic() - started, 1), **result)


if __name__ == "__main__":
    main()
