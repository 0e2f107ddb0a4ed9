#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Stage, switch and prune the releases of a service
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - A release is a directory C(releases/ID) with all that a start of the service needs. Its name is
    the hash of its content, so the same content is the same release and there is nothing to do.
  - With O(state=staged) the release is written beside its final place and moved there when it is
    complete; nothing that runs is touched.
  - With O(state=current) the link C(current) is switched to it in one atomic step, and the link
    C(previous) remembers where it pointed before.
  - With O(state=pruned) old releases are removed, and environments that no release links to.
    C(current), C(previous) and every release that a process still runs from are kept.
attributes:
  check_mode:
    description: Says what would be staged, switched or removed, and changes nothing.
    support: full
  diff_mode:
    description: Shows the files that the release adds and removes, not their content.
    support: full
  action:
    description: Reads the files of O(sources) on the control node.
    support: full
options:
  root:
    description: Directory of the service, such as C(/opt/gpufleet/vllm).
    type: path
    required: true
  state:
    description: What is to be true of the release.
    type: str
    choices: [staged, current, pruned]
    default: staged
  id:
    description: The release to switch to. Required with O(state=current).
    type: str
  files:
    description: Files of the release, as a dictionary from path to text.
    type: dict
    default: {}
  sources:
    description:
      - Files and directories of the control node that go into the release, as a dictionary from
        path in the release to path on the control node.
    type: dict
    default: {}
  links:
    description: Symbolic links of the release, as a dictionary from path to target.
    type: dict
    default: {}
  keep:
    description: How many releases O(state=pruned) leaves.
    type: int
    default: 3
  environments:
    description: Directory of virtual environments that O(state=pruned) looks after.
    type: path
"""

EXAMPLES = r"""
- name: Stage the chat app
  gpufleet.llm.release:
    root: /opt/gpufleet/chainlit
    files: {settings.json: "{{ settings | to_nice_json }}"}
    sources: {app: files/chat}
    links: {venv: "{{ chat_venv.path }}"}
  register: chat_release

- name: Switch to it
  gpufleet.llm.release:
    root: /opt/gpufleet/chainlit
    state: current
    id: "{{ chat_release.id }}"
"""

RETURN = r"""
id:
  description: Name of the release.
  type: str
  returned: with O(state=staged) and O(state=current)
  sample: 8c1f6a0d42be
path:
  description: Directory of the release.
  type: str
  returned: with O(state=staged) and O(state=current)
digests:
  description: SHA-256 of every file, and of the target of every link, by path.
  type: dict
  returned: with O(state=staged) and O(state=current)
previous:
  description: The release that was current before, or an empty string.
  type: str
  returned: with O(state=current)
removed:
  description: Releases and environments that were, or would be, removed.
  type: list
  elements: str
  returned: with O(state=pruned)
"""

import base64
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule


class ReleaseError(Exception):
    """The release cannot be staged or switched to; the text says why and what to do."""


def digests_of(contents: dict[str, bytes], links: dict[str, str]) -> dict[str, str]:
    """SHA-256 of every file's content and of every link's target, sorted by path."""
    found = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    found.update(
        {path: hashlib.sha256(target.encode()).hexdigest() for path, target in links.items()}
    )
    return dict(sorted(found.items()))


def digests_in(place: Path) -> dict[str, str]:
    """Digests of a release that is on the host already; empty where there is none."""
    entries = [
        path
        for path in place.rglob("*")
        if (path.is_symlink() or path.is_file()) and path.parent.name != "__pycache__"
    ]
    links = {e.relative_to(place).as_posix(): str(e.readlink()) for e in entries if e.is_symlink()}
    files = {e.relative_to(place).as_posix(): e.read_bytes() for e in entries if not e.is_symlink()}
    return digests_of(files, links)


def release_id(digests: dict[str, str]) -> str:
    """Name of a release: 12 hexadecimal digits from the hash of its paths and digests."""
    lines = "".join(f"{digest} {path}\n" for path, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def release_of(link: Path) -> str:
    """Name of the release that `link` points to, or an empty string."""
    return link.readlink().name if link.is_symlink() else ""


def stage(place: Path, contents: dict[str, bytes], links: dict[str, str]) -> None:
    """Write the release beside `place`, readable by every service, and move it there."""
    partial = place.with_name(place.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    for path, content in contents.items():
        target = partial / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o644)
    for path, link in links.items():
        target = partial / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(link)
    for folder, _folders, _files in os.walk(partial):
        Path(folder).chmod(0o755)
    partial.rename(place)


def point(link: Path, target: str) -> None:
    """Make `link` point to `target` in one step: there is no moment without a link."""
    beside = link.with_name(f".{link.name}.new")
    if beside.is_symlink():
        beside.unlink()
    beside.symlink_to(target)
    beside.replace(link)


def in_use() -> set[str]:
    """Every directory that a process of this host has as its working directory."""
    used = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                used.add(str((entry / "cwd").readlink()))
            except OSError:
                continue  # it ended meanwhile
    return used


def old_releases(root: Path, keep: int) -> list[Path]:
    """Releases beyond the newest `keep` that nothing points to and nothing runs from."""
    releases = root / "releases"
    if not releases.is_dir():
        return []
    needed = {release_of(root / "current"), release_of(root / "previous")} - {""}
    used = in_use()
    newest_first = sorted(
        (path for path in releases.iterdir() if path.is_dir() and path.suffix != ".partial"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    kept = [path for path in newest_first if path.name in needed or str(path) in used]
    others = [path for path in newest_first if path not in kept]
    return others[max(0, keep - len(kept)) :]


def unused_environments(environments: Path, doomed: list[Path]) -> list[Path]:
    """Environments that no release of any service links to, the `doomed` releases aside."""
    if not environments.is_dir():
        return []
    linked = {
        str(link.readlink())
        for link in environments.parent.glob("*/releases/*/venv")
        if link.is_symlink() and link.parent not in doomed
    }
    return [
        path
        for path in sorted(environments.iterdir())
        if path.is_dir() and path.suffix != ".partial" and str(path) not in linked
    ]


def run_staged(root: Path, params: dict[str, Any], check: bool) -> dict[str, Any]:
    contents = {path: base64.b64decode(text) for path, text in params["sources"].items()}
    contents.update({path: text.encode() for path, text in params["files"].items()})
    digests = digests_of(contents, params["links"])
    name = release_id(digests)
    place = root / "releases" / name
    changed = not place.is_dir()
    if changed and not check:
        stage(place, contents, params["links"])
    listing = "".join(f"{path}\n" for path in digests)
    return {
        "changed": changed,
        "id": name,
        "path": str(place),
        "digests": digests,
        "diff": {
            "before_header": "no release",
            "after_header": str(place),
            "before": "" if changed else listing,
            "after": listing,
        },
    }


def run_current(root: Path, name: str, check: bool) -> dict[str, Any]:
    place = root / "releases" / name
    before = release_of(root / "current")
    if not place.is_dir() and not check:
        others = sorted(path.name for path in place.parent.glob("*")) or ["none: stage one first"]
        raise ReleaseError(
            f"There is no release {name} in {place.parent}. There is: {', '.join(others)}"
        )
    changed = before != name
    if changed and not check:
        if before:
            point(root / "previous", "releases/" + before)
        point(root / "current", "releases/" + name)
    return {
        "changed": changed,
        "id": name,
        "path": str(place),
        "digests": digests_in(place),
        "previous": before if changed else release_of(root / "previous"),
        "diff": {"before": before + "\n", "after": name + "\n"},
    }


def run_pruned(root: Path, params: dict[str, Any], check: bool) -> dict[str, Any]:
    doomed = old_releases(root, params["keep"])
    environments = params["environments"]
    unused = unused_environments(Path(environments), doomed) if environments else []
    if not check:
        for path in doomed + unused:
            shutil.rmtree(path)
    removed = [str(path) for path in doomed + unused]
    return {
        "changed": bool(removed),
        "removed": removed,
        "diff": {"before": "".join(path + "\n" for path in removed), "after": ""},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["staged", "current", "pruned"],
                "default": "staged",
            },
            "id": {"type": "str"},
            "files": {"type": "dict", "default": {}},
            "sources": {"type": "dict", "default": {}},
            "links": {"type": "dict", "default": {}},
            "keep": {"type": "int", "default": 3},
            "environments": {"type": "path"},
        },
        required_if=[("state", "current", ["id"])],
        supports_check_mode=True,
    )
    params, root = module.params, Path(module.params["root"])
    try:
        if params["state"] == "staged":
            result = run_staged(root, params, module.check_mode)
        elif params["state"] == "current":
            result = run_current(root, params["id"], module.check_mode)
        else:
            result = run_pruned(root, params, module.check_mode)
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
