#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Stage, switch and verify the releases of a service
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - A release is a directory C(releases/ID) with all that a start of the service needs. Its name is
    the hash of its content, so the same content is the same release and there is nothing to do.
  - With O(state=staged) the release is written beside its final place and moved there when it is
    complete; nothing that runs is touched. One whose files are not what its name says, as after a
    failure of the disk, is written anew.
  - With O(state=current) the link C(current) is switched to it in one atomic step, and the units
    that the release holds are installed.
  - With O(state=verified) the release, whose gate has passed, is remembered by the link
    C(verified), and the one that was verified before it by C(previous). A run that was interrupted
    or failed changes neither, so the way back always leads to a release that has served.
  - O(state=verified) also removes old releases, and environments that no release links to. What
    a link points to and every release that a process still runs from are kept.
attributes:
  check_mode:
    description: Says what would be staged, switched or removed, and changes nothing.
    support: full
  diff_mode:
    description: Shows how the files of O(files) differ from the current release, and of the others
      which are added, changed or removed.
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
    choices: [staged, current, verified]
    default: staged
  id:
    description:
      - The release to switch to, or the one that is verified. Required with O(state=current) and
        O(state=verified).
      - With O(state=current), V(previous) is the last verified release that is not current.
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
  units:
    description:
      - Where O(state=current) installs the units of the release, its files below C(units/); where
        one differs, systemd reads all anew. Without it none are installed.
    type: path
  keep:
    description: How many releases O(state=verified) leaves.
    type: int
    default: 3
  environments:
    description: Directory of virtual environments that O(state=verified) looks after.
    type: path
  rolled_back:
    description:
      - That this is a rollback. With O(state=verified) the release that was left is then not the
        one before, so that a second rollback changes nothing instead of bringing it back.
      - With O(state=current) the release must be there in check mode too, where one that this run
        stages is not.
    type: bool
    default: false
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
    units: /etc/systemd/system

- name: Remember that its gate has passed
  gpufleet.llm.release:
    root: /opt/gpufleet/chainlit
    state: verified
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
verified:
  description: The last release whose gate passed, or an empty string.
  type: str
  returned: with O(state=current)
removed:
  description: Releases and environments that were, or would be, removed.
  type: list
  elements: str
  returned: with O(state=verified)
"""

import base64
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# As `locked_venv` names them.
ENVIRONMENT = re.compile(r"[0-9a-f]{16}")
# End of the name of what is being removed; `locked_venv` uses it too.
REMOVED = ".old.partial"


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
    partial, damaged = (place.with_name(place.name + end) for end in (".partial", REMOVED))
    for left in (partial, damaged):
        if left.exists():
            shutil.rmtree(left)
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
    # Else a power cut may leave the release with empty files.
    os.sync()
    if place.exists():
        place.rename(damaged)
    partial.rename(place)
    if damaged.exists():
        shutil.rmtree(damaged)


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


def old_releases(root: Path, keep: int, needed: set[str]) -> list[Path]:
    """Releases beyond the newest `keep` that are not `needed` and that nothing runs from."""
    releases = root / "releases"
    if not releases.is_dir():
        return []
    used = in_use()
    newest_first = sorted(
        (path for path in releases.iterdir() if path.is_dir() and path.suffix != ".partial"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    # Above it a link may lead to another disk; processes know the place itself.
    kept = [p for p in newest_first if p.name in needed or str(p.resolve()) in used]
    others = [path for path in newest_first if path not in kept]
    # In check mode a needed release may not be there yet, and counts all the same.
    places = len(needed.union(path.name for path in kept))
    return others[max(0, keep - places) :]


def unused_environments(services: Path, environments: Path, doomed: list[Path]) -> list[Path]:
    """Environments that no release of any of the `services` links to, the `doomed` ones aside."""
    if not environments.is_dir():
        return []
    linked = {
        str(link.readlink())
        for link in services.glob("*/releases/*/venv")
        if link.is_symlink() and link.parent not in doomed
    }
    return [
        path
        for path in sorted(environments.iterdir())
        # Only what has the name of one: the directory may hold other things.
        if path.is_dir() and ENVIRONMENT.fullmatch(path.name) and str(path) not in linked
    ]


def remove(path: Path) -> None:
    """Remove a directory. Half of one, where the run is cut short, has no longer its name."""
    gone = path.with_name(path.name + REMOVED)
    if gone.exists():
        shutil.rmtree(gone)
    path.rename(gone)
    shutil.rmtree(gone)


def text_of(path: Path) -> str:
    """Text of a file, or nothing where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def differences(
    current: Path, files: dict[str, str], digests: dict[str, str]
) -> list[dict[str, str]]:
    """Diffs from the current release: of `files` by line, of everything else by name and digest."""
    before = digests_in(current.resolve()) if current.exists() else {}
    shown = [
        {
            "before_header": path,
            "after_header": path,
            "before": text_of(current / path),
            "after": files.get(path, ""),
        }
        for path in sorted({*files, *(p for p in before if p.startswith(("instances/", "units/")))})
        if before.get(path) != digests.get(path)
    ]
    named = [path["before_header"] for path in shown]
    listings = [
        "".join(f"{digest[:12]} {path}\n" for path, digest in side.items() if path not in named)
        for side in (before, digests)
    ]
    if listings[0] != listings[1]:
        shown.append(
            {
                "before_header": "other files of the release",
                "after_header": "other files of the release",
                "before": listings[0],
                "after": listings[1],
            }
        )
    return shown


def run_staged(root: Path, params: dict[str, Any], check: bool) -> dict[str, Any]:
    contents = {path: base64.b64decode(text) for path, text in params["sources"].items()}
    contents.update({path: text.encode() for path, text in params["files"].items()})
    digests = digests_of(contents, params["links"])
    name = release_id(digests)
    place = root / "releases" / name
    # A release of this name with other content was damaged: it is written anew.
    changed = not place.is_dir() or digests_in(place) != digests
    if changed and not check:
        stage(place, contents, params["links"])
    return {
        "changed": changed,
        "id": name,
        "path": str(place),
        "digests": digests,
        "diff": differences(root / "current", params["files"], digests) if changed else [],
    }


def wanted_release(root: Path, name: str) -> str:
    """Return `name`, or what `previous` stands for: the last verified one that is not current.

    After a rollback that is the current one: a second rollback stays there. Raises ReleaseError
    when there is none.
    """
    if name != "previous":
        return name
    current, verified = release_of(root / "current"), release_of(root / "verified")
    found = verified if verified != current else release_of(root / "previous")
    if not found:
        raise ReleaseError(
            f"There is no release before {current or 'the first'} in {root / 'releases'}: "
            "name one, or correct the inventory and run site.yml."
        )
    return found


def install_units(place: Path, directory: Path, check: bool) -> list[str]:
    """Install the units of a release whose text differs; return their names."""
    differing = [
        unit
        for unit in sorted(place.glob("units/*"))
        if text_of(directory / unit.name) != text_of(unit)
    ]
    for unit in () if check else differing:
        beside = directory / f".{unit.name}.new"
        shutil.copyfile(unit, beside)
        beside.chmod(0o644)
        beside.replace(directory / unit.name)
    return [unit.name for unit in differing]


def run_current(root: Path, params: dict[str, Any], check: bool) -> dict[str, Any]:
    name = wanted_release(root, params["id"])
    place = root / "releases" / name
    before = release_of(root / "current")
    if not place.is_dir() and (params["rolled_back"] or not check):
        others = sorted(path.name for path in place.parent.glob("*")) or ["none: stage one first"]
        raise ReleaseError(
            f"There is no release {name} in {place.parent}. There is: {', '.join(others)}"
        )
    if before != name and not check:
        point(root / "current", "releases/" + name)
    units = install_units(place, Path(params["units"]), check) if params["units"] else []
    return {
        "changed": before != name or bool(units),
        "units": units,
        "id": name,
        "path": str(place),
        "digests": digests_in(place),
        "verified": release_of(root / "verified"),
        "diff": {
            "before": before + "\n",
            "after": "".join(f"{line}\n" for line in [name, *units]),
        },
    }


def run_verified(root: Path, params: dict[str, Any], check: bool) -> dict[str, Any]:
    name, verified = params["id"], release_of(root / "verified")
    before = release_of(root / "previous")
    previous = verified if name != verified else before
    if params["rolled_back"]:
        previous = name  # what was left for it is no release to go back to
    advanced = (name, previous) != (verified, before)
    if advanced and not check:
        if previous:
            point(root / "previous", "releases/" + previous)
        point(root / "verified", "releases/" + name)
    doomed = old_releases(root, params["keep"], {name, previous} - {""})
    environments = params["environments"]
    unused = unused_environments(root.parent, Path(environments), doomed) if environments else []
    if not check:
        for path in doomed + unused:
            remove(path)
        for folder in (root / "releases", *([Path(environments)] if environments else [])):
            for left in folder.glob("*" + REMOVED):
                shutil.rmtree(left, ignore_errors=True)
    removed = [str(path) for path in doomed + unused]
    return {
        "changed": advanced or bool(removed),
        "removed": removed,
        "diff": {
            "before": "".join(f"{line}\n" for line in [verified, *removed]),
            "after": f"{name}\n",
        },
    }


def main() -> None:
    # Hardened hosts have 027 or 077, and services of other users are to read what is made here.
    os.umask(0o022)
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["staged", "current", "verified"],
                "default": "staged",
            },
            "id": {"type": "str"},
            "files": {"type": "dict", "default": {}},
            "sources": {"type": "dict", "default": {}},
            "links": {"type": "dict", "default": {}},
            "units": {"type": "path"},
            "keep": {"type": "int", "default": 3},
            "environments": {"type": "path"},
            "rolled_back": {"type": "bool", "default": False},
        },
        required_if=[("state", "current", ["id"]), ("state", "verified", ["id"])],
        supports_check_mode=True,
    )
    params, root = module.params, Path(module.params["root"])
    try:
        if params["state"] == "staged":
            result = run_staged(root, params, module.check_mode)
        elif params["state"] == "current":
            result = run_current(root, params, module.check_mode)
            if result.pop("units") and not module.check_mode:
                # Of timers and templates nobody else would see that they have changed.
                module.run_command(["systemctl", "daemon-reload"], check_rc=True)
        else:
            result = run_verified(root, params, module.check_mode)
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
