# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download a pinned revision from Hugging Face or ModelScope with their own tools."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from ansible_collections.gpufleet.llm.plugins.module_utils._model_files import (
    ModelError,
    scan,
    sha256_of,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._model_store import (
    drop_tool_dirs,
    require_space,
)

HUGGINGFACE = "huggingface"
MODELSCOPE = "modelscope"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Beginnings of the variables by which a host sets up the tools for itself.
_OWN = ("HF_", "HUGGING", "MODELSCOPE_", "TRANSFORMERS_", "PYTHON")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOVING = ("main", "master", "HEAD")
# The ModelScope command line lists no files; its library does. Prints JSON.
_MODELSCOPE_LIST = """
import json, sys
from modelscope_hub import HubApi
api = HubApi()
api = HubApi(endpoint=api.resolve_endpoint_for_read(sys.argv[1], repo_type="model"))
files = api.list_repo_files(sys.argv[1], "model", revision=sys.argv[2])
print(json.dumps([{"path": f.path, "size": f.size, "sha256": f.sha256}
                  for f in files if f.type != "tree"]))
"""
_WORKERS = "4"  # parallel files: enough to fill a line, little to lose when interrupted
_SHOWN_LINES = 12  # of a tool's output, when it fails
# Of HTTP: not the milliseconds of a log's time, a part of a path, or the line of a traceback.
_STATUS = r"(?<![\w,./-])(?<!line ){}(?![\w/])"


@dataclass(frozen=True)
class RemoteFile:
    """One file of the revision as the hub lists it; the hash is None where it tells none."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Hub:
    """How to reach a hub: kind, tools, and what the tools find in their environment."""

    # AnsibleModule.run_command: status, output and errors of a command.
    run_command: Callable[..., tuple[int, str, str]]
    kind: str
    tools_venv: Path
    home: Path
    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    exclude: tuple[str, ...] = ()
    lock_fd: int | None = None


def require_pinned(kind: str, revision: str) -> None:
    """Raise ModelError unless the revision names content that cannot change under it."""
    if kind == HUGGINGFACE and not _COMMIT.fullmatch(revision):
        raise ModelError(
            f"The revision {revision!r} is not a commit: a branch or tag can change between hosts.",
            "Give the 40 hex digits of the commit, shown under 'Files and versions' on the hub "
            "or by `git ls-remote`.",
        )
    if kind == MODELSCOPE and revision in _MOVING:
        raise ModelError(
            f"The revision {revision!r} is a branch, which can change between hosts.",
            "Give a commit or a tag, shown under 'Files' on the hub.",
        )


def read_token(path: Path) -> str:
    """Return the token in a file that only its owner can read; raise ModelError otherwise."""
    try:
        status = path.stat()
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The token file {path} cannot be read ({error}).",
            "Create it with the token as its only line, owner root, mode 0600.",
        ) from error
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ModelError(
            f"The token file {path} can be read by others than its owner.",
            f"Run `chmod 0600 {path}`, and replace the token if others may have read it.",
        )
    if not token or len(token.split()) != 1:
        raise ModelError(
            f"The token file {path} does not hold one token.", "Write the token as its only line."
        )
    return token


def download(hub: Hub, name: str, revision: str, content: Path) -> None:
    """Download the revision into content and verify every file against the hub's own list.

    Files that an interrupted run completed are kept. Raises ModelError when the hub refuses, the
    disk is too small, or a file differs (it is removed, so that a new run fetches it again).
    """
    content.mkdir(exist_ok=True)
    remote = [
        file for file in _list_files(hub, name, revision) if not excluded(file.path, hub.exclude)
    ]
    _drop_leftovers(content)
    missing = sum(file.size for file in remote if not _has_size(content / file.path, file.size))
    require_space(content, missing, f"the download of {name} at {revision}")
    if hub.kind == HUGGINGFACE:
        _run_huggingface(hub, name, revision, content)
    else:
        _run_modelscope(hub, name, revision, content)
    drop_tool_dirs(content)
    require_complete(remote, content, name)


def _list_files(hub: Hub, name: str, revision: str) -> list[RemoteFile]:
    if hub.kind == HUGGINGFACE:
        command = ["hf", "models", "ls", name, "--recursive", "--revision", revision, "--json"]
    else:
        command = ["python", "-c", _MODELSCOPE_LIST, name, revision]
    output = _run(hub, command)
    try:
        listed = [
            RemoteFile(str(record["path"]), int(record["size"]), record.get("sha256"))
            for record in json.loads(output)
            if "size" in record  # directories have none
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"The hub's list of files cannot be read: {output[:200]!r}.",
            "Check that hub_endpoint speaks the API of the hub.",
        ) from error
    if not listed:
        raise ModelError(f"{name} at {revision} has no files.", "Check name and revision.")
    return listed


def _run_huggingface(hub: Hub, name: str, revision: str, content: Path) -> None:
    where = ["--revision", revision, "--local-dir", str(content)]
    excludes = [part for pattern in hub.exclude for part in ("--exclude", pattern)]
    _run(hub, ["hf", "download", name, *where, "--max-workers", _WORKERS, *excludes])
    strict = ["--fail-on-extra-files", *([] if hub.exclude else ["--fail-on-missing-files"])]
    try:
        _run(hub, ["hf", "cache", "verify", name, *where, *strict])
    except ToolError as error:
        wrong = re.findall(r"^ +- (.+?)(?:: expected .*)?$", error.output, re.MULTILINE)
        # The tool calls a file it once fetched complete: what is wrong must go, or it stays.
        for file in wrong:
            _forget(content, file)
        raise


def _forget(content: Path, file: str) -> None:
    target = content / file
    if content.resolve() in target.resolve().parents:
        target.unlink(missing_ok=True)


def _run_modelscope(hub: Hub, name: str, revision: str, content: Path) -> None:
    excludes = [part for pattern in hub.exclude for part in ("--exclude", pattern)]
    where = ["--revision", revision, "--local-dir", str(content)]
    command = ["modelscope", "download", name, *where, "--max-workers", _WORKERS, *excludes]
    _run(hub, command)


def require_complete(remote: list[RemoteFile], content: Path, name: str) -> None:
    """Compare names, sizes and the hashes that the hub told; remove what differs."""
    expected = {file.path: file for file in remote}
    found = scan(content)
    problems = [f"{path} is missing" for path in sorted(set(expected) - set(found))]
    for path, status in sorted(found.items()):
        file = expected.get(path)
        if file is None:
            problems.append(f"{path} is not part of the revision")
        elif status.st_size != file.size:
            problems.append(f"{path} has {status.st_size} bytes instead of {file.size}")
        elif file.sha256 and sha256_of(content / path) != file.sha256.lower():
            problems.append(f"{path} does not have the SHA-256 that the hub lists")
        else:
            continue
        (content / path).unlink()
    if problems:
        raise ModelError(
            f"The download of {name} is not what the hub lists: {'; '.join(problems)}.",
            "Run again: whole files are kept, these are fetched anew.",
        )


def _drop_leftovers(content: Path) -> None:
    """Remove pieces that a killed `hf` left: every run of it starts pieces of its own."""
    for path in (content / ".cache" / "huggingface").rglob("*.incomplete"):
        path.unlink()


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def patterns_of(exclude: Iterable[str]) -> list[str]:
    """The patterns in one form, sorted: with a slash at its end one means all of the folder."""
    return sorted(f"{pattern}*" if pattern.endswith("/") else pattern for pattern in exclude)


def excluded(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns leaves the file out."""
    return any(fnmatch(path, pattern) for pattern in patterns)


class ToolError(ModelError):
    """A hub's tool ended with an error; output is what it printed."""

    def __init__(self, problem: str, remedy: str, output: str) -> None:
        super().__init__(problem, remedy)
        self.output = output


def _run(hub: Hub, command: list[str]) -> str:
    """Run a program of the tools venv; return its standard output. Raises ToolError."""
    program = hub.tools_venv / "bin" / command[0]
    if not program.exists():
        raise ModelError(
            f"The download tools are not there: {program} does not exist.",
            "Install files/locks/model.in into a virtual environment and name it in tools_venv.",
        )
    environment = _environment(hub)
    # Nothing of the host's own settings reaches the tools.
    hidden = [name for name in os.environ if name.startswith(_OWN) and name not in environment]
    status, output, errors = hub.run_command(
        ["env", *(f"--unset={name}" for name in hidden), str(program), *command[1:]],
        environ_update=environment,
        expand_user_and_vars=False,
        errors="replace",
        # The tool keeps the lock open: should this process be killed, the next run waits for it.
        pass_fds=() if hub.lock_fd is None else (hub.lock_fd,),
    )
    if status != 0:
        said = f"{output}{errors}"
        shown = "the list of files" if command[0] == "python" else " ".join(command[:2])
        raise ToolError(
            f"{hub.kind}: {shown} failed ({status}):\n{_gist(said)}\n", _remedy(said), said
        )
    return output


def _gist(output: str) -> str:
    """Return the lines that say what went wrong, without banners, progress and tracebacks."""
    lines = [line for line in output.splitlines() if line.strip() and "HF_DEBUG" not in line]
    starts = [i for i, line in enumerate(lines) if re.match(r"❌|\[FAIL\]|[Ee]rror: ", line)]
    if not starts:
        # Of a chain of exceptions the last one counts.
        starts = [i for i, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception)\b", line)]
        starts = starts[-1:]
    begin = starts[0] if starts else -_SHOWN_LINES
    return "\n".join(lines[begin:][:_SHOWN_LINES])


def _remedy(output: str) -> str:
    text = output.lower()
    if "checksum verification failed" in text or "mismatch" in text:
        return "Run again: whole files are kept, damaged ones are fetched anew."
    if re.search(_STATUS.format("40[13]") + "|gated|unauthori|access denied|authenticat", text):
        return "Put a token that may read this model into hub_token_file."
    if re.search(_STATUS.format("404") + "|not ?found|notexist", text):
        return "Check name and revision; a private model also needs hub_token_file."
    return "Check hub_endpoint, proxy and ca_bundle, then run again: whole files are kept."


def _environment(hub: Hub) -> dict[str, str]:
    """Return what the tools' environment has on top of the host's: our settings, one home."""
    env = {
        "HOME": str(hub.home),
        "HF_HOME": str(hub.home / "huggingface"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "MODELSCOPE_HOME": str(hub.home / "modelscope"),
        "MODELSCOPE_CACHE": str(hub.home / "modelscope-cache"),
        "NO_COLOR": "1",
        "PYTHONUTF8": "1",
    }
    if hub.endpoint:
        # Mirrors serve plain HTTP; Xet would go past them to the hub's own storage.
        env.update(HF_ENDPOINT=hub.endpoint, HF_HUB_DISABLE_XET="1")
        env.update(MODELSCOPE_ENDPOINT=hub.endpoint)
    if hub.token:
        env.update({"HF_TOKEN" if hub.kind == HUGGINGFACE else "MODELSCOPE_API_TOKEN": hub.token})
    if hub.proxy:
        env.update(dict.fromkeys(PROXY_VARIABLES, hub.proxy))
    if hub.ca_bundle:
        env.update(dict.fromkeys(_CA_VARIABLES, hub.ca_bundle))
    return env
