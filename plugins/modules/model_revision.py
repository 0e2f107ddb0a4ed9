#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: one pinned, verified model revision on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_revision
short_description: Bring one pinned, verified model revision to a host
version_added: 0.1.0
author:
  - The gpufleet maintainers (@gpufleet)
description:
  - Puts the files of one model revision into C(<root>/<name>/<revision>/), from a hub, from a
    directory of the host, or from an archive.
  - The revision is built in C(<root>/<name>/<revision>.partial/), verified, described by a
    C(manifest.json) with the size and the SHA-256 of every file, and renamed into place. It
    appears whole or not at all, and is never changed afterwards.
  - A run that was interrupted is taken up again where that is possible. Files that a hub's tool
    completed are kept; archives, and files from ModelScope, continue within the file.
  - An existing revision is verified against its manifest on every run. A damaged one is reported,
    not repaired, as a server may have it open.
options:
  root:
    description: The directory that holds all models.
    type: path
    default: /var/lib/gpufleet/models
  name:
    description: The model's name, C(organisation/name), on a hub exactly as the hub spells it.
    type: str
    required: true
  revision:
    description:
      - The revision, which is also the name of its directory.
      - For Hugging Face the 40 hex digits of a commit. For ModelScope a commit or a tag.
      - For O(source=path) and O(source=url) any name of your choice made of letters, digits and
        C(._-), such as a date or a version. New content needs a new name. It is asked for rather
        than derived, so that the directory's name is known before anything is read.
    type: str
    required: true
  source:
    description: Where the files come from.
    type: str
    choices: [hub, path, url]
    default: hub
  hub:
    description: The hub that O(source=hub) downloads from.
    type: str
    choices: [huggingface, modelscope]
    default: huggingface
  hub_endpoint:
    description:
      - Address of a mirror, instead of the hub's own. Passed to the hub's tools as
        C(HF_ENDPOINT) or C(MODELSCOPE_ENDPOINT), the successor of C(MODELSCOPE_DOMAIN).
    type: str
  hub_token_file:
    description:
      - File on the host with an access token as its only line, for private and gated models.
      - Only its owner may have access to it (mode C(0600)). The token reaches the hub's tools
        through their environment, never through arguments, results or logs.
    type: path
  hub_exclude:
    description:
      - Patterns of files that are left out, such as V(original/*) where a repository holds the
        weights twice. C(*) also matches slashes, and V(original/) is the same as V(original/*).
    type: list
    elements: str
    default: []
  tools_venv:
    description:
      - Virtual environment with the hubs' own tools (C(hf), C(modelscope)). Needed by
        O(source=hub) when the revision is not there yet.
    type: path
  src:
    description:
      - Directory on the host that O(source=path) imports. Links to files in it are followed.
      - It is not read again once the revision exists.
    type: path
  move:
    description:
      - Take the directory O(src) over instead of copying it; afterwards it is gone.
    type: bool
    default: false
  url:
    description:
      - Address (http or https) of the archive that O(source=url) downloads. A tar (plain, gz, bz2,
        xz; zstd with Python 3.14 or newer) or a zip. A single directory at its top is stripped.
      - Put no password into it, as Ansible logs it.
    type: str
  url_sha256:
    description: SHA-256 of the archive, in hex.
    type: str
  manifest_sha256:
    description:
      - SHA-256 of C(manifest.json), which pins the whole content whatever the source is. The
        module returns it; C(sha256sum manifest.json) shows it too.
    type: str
  verify:
    description:
      - How an existing revision is verified.
      - V(quick) compares names and sizes, and hashes the files whose time of change is not the
        one they were published with. V(full) hashes every file.
    type: str
    choices: [quick, full]
    default: quick
  proxy:
    description: Proxy for http and https. Without it, the task's environment decides.
    type: str
  ca_bundle:
    description: File on the host with the authorities to trust, instead of the system's.
    type: path
  lock_wait:
    description: Seconds to wait for another run that works on the same revision.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: Verifies an existing revision; a missing one is reported as a change, unread.
  diff_mode:
    support: full
    description: Shows the directory's state before and after.
notes:
  - Standard library only, Python 3.9 or newer, on the managed host.
"""

EXAMPLES = r"""
- name: A commit from Hugging Face
  gpufleet.llm.model_revision:
    name: Qwen/Qwen3-0.6B-FP8
    revision: 0123456789abcdef0123456789abcdef01234567
    tools_venv: /opt/gpufleet/model-tools

- name: A private model from a mirror inside the company
  gpufleet.llm.model_revision:
    name: example/private
    revision: 0123456789abcdef0123456789abcdef01234567
    hub_endpoint: https://hub.example.com
    hub_token_file: /etc/gpufleet/credentials/hub-token
    ca_bundle: /etc/ssl/certs/example.pem
    tools_venv: /opt/gpufleet/model-tools

- name: A directory that is already on the host, its content pinned
  gpufleet.llm.model_revision:
    name: example/tuned
    revision: "2026-03-01"
    source: path
    src: /mnt/models/tuned
    manifest_sha256: "{{ tuned_manifest_sha256 }}"

- name: An archive
  gpufleet.llm.model_revision:
    name: example/tuned
    revision: "2026-03-01"
    source: url
    url: https://files.example.com/tuned-2026-03-01.tar.gz
    url_sha256: "{{ tuned_archive_sha256 }}"
"""

RETURN = r"""
path:
  description: The directory of the revision.
  returned: always
  type: str
  sample: /var/lib/gpufleet/models/Qwen/Qwen3-0.6B-FP8/0123456789abcdef0123456789abcdef01234567
name:
  description: The model's name.
  returned: always
  type: str
revision:
  description: The revision.
  returned: always
  type: str
source:
  description: Where the files came from, or would come from.
  returned: always
  type: str
  sample: huggingface
files:
  description: Number of files of the revision.
  returned: when the revision is there
  type: int
bytes:
  description: Their total size.
  returned: when the revision is there
  type: int
manifest_sha256:
  description: SHA-256 of the manifest, for the option of the same name.
  returned: when the revision is there
  type: str
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.llm.plugins.module_utils import _model_archive as archive
from ansible_collections.gpufleet.llm.plugins.module_utils import _model_hub as hub
from ansible_collections.gpufleet.llm.plugins.module_utils._model_checks import find_problems
from ansible_collections.gpufleet.llm.plugins.module_utils._model_files import (
    MANIFEST,
    ORIGIN,
    ModelError,
    find_damage,
    manifest_bytes,
    read_manifest,
    scan,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._model_request import require_valid
from ansible_collections.gpufleet.llm.plugins.module_utils._model_store import (
    Layout,
    Origin,
    discard,
    hold_lock,
    import_path,
    prepare,
    publish,
    read_origin,
)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "root": {"type": "path", "default": "/var/lib/gpufleet/models"},
    "name": {"type": "str", "required": True},
    "revision": {"type": "str", "required": True},
    "source": {"type": "str", "choices": ["hub", "path", "url"], "default": "hub"},
    "hub": {"type": "str", "choices": ["huggingface", "modelscope"], "default": "huggingface"},
    "hub_endpoint": {"type": "str"},
    # A path, not a secret; the file's content is masked once it is read.
    "hub_token_file": {"type": "path", "no_log": False},
    "hub_exclude": {"type": "list", "elements": "str", "default": []},
    "tools_venv": {"type": "path"},
    "src": {"type": "path"},
    "move": {"type": "bool", "default": False},
    "url": {"type": "str"},
    "url_sha256": {"type": "str"},
    "manifest_sha256": {"type": "str"},
    "verify": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
    "proxy": {"type": "str", "no_log": True},  # may hold a password
    "ca_bundle": {"type": "path"},
    "lock_wait": {"type": "int", "default": 600},
}
REQUIRED_IF = [
    ("source", "path", ["src"]),
    ("source", "url", ["url", "url_sha256"]),
]


def origin_of(params: dict[str, Any]) -> Origin:
    """Return what decides the content of a request; recorded beside the revision."""
    if params["source"] == "hub":
        return {"source": params["hub"], "exclude": hub.patterns_of(params["hub_exclude"])}
    if params["source"] == "url":
        return {"source": "url", "sha256": params["url_sha256"]}
    return {"source": "path"}


def means_the_same(recorded: Origin, origin: Origin, names: Iterable[str]) -> bool:
    """Whether both requests lead to the files `names`: patterns came since that leave out none."""
    came = set(origin.get("exclude", [])) - set(recorded.get("exclude", []))
    gone = set(recorded.get("exclude", [])) - set(origin.get("exclude", []))
    others_differ = {**recorded, "exclude": []} != {**origin, "exclude": []}
    return not (others_differ or gone or any(hub.excluded(name, came) for name in names))


def verify(params: dict[str, Any], layout: Layout, origin: Origin) -> dict[str, Any]:
    """Verify the existing revision; return the facts about it. Raises ModelError on damage."""
    dest = layout.dest
    away = f"Move it away (mv {dest} {dest}.damaged) and run again; it is never changed in place."
    try:
        entries = read_manifest(dest)
    except ValueError as error:
        raise ModelError(f"{dest} is damaged: {error}.", away) from error
    names = [entry.file for entry in entries]
    recorded = read_origin(dest / ORIGIN)
    same_source = recorded and recorded["source"] == origin["source"]
    if recorded and same_source and not means_the_same(recorded, origin, names):
        raise ModelError(
            f"{dest} was made from another request: {recorded}, asked for is {origin}.",
            "Give the new content a new revision name, or, where no release uses the old one, "
            f"move it away (mv {dest} {dest}.old) and run again.",
        )
    try:
        damage = find_damage(dest, entries, full=params["verify"] == "full")
    except ValueError as error:
        raise ModelError(f"{dest} is damaged: {error}.", away) from error
    if damage:
        raise ModelError(f"{dest} is damaged: {'; '.join(damage)}.", away)
    digest = hashlib.sha256(manifest_bytes(entries)).hexdigest()
    if params["manifest_sha256"] and digest != params["manifest_sha256"]:
        raise ModelError(
            f"{dest} is not the pinned content: its {MANIFEST} has SHA-256 {digest}, "
            f"manifest_sha256 says {params['manifest_sha256']}.",
            f"Correct the pin, or give another revision. If the pin is right: {away}",
        )
    total = sum(entry.size for entry in entries)
    return {"files": len(entries), "bytes": total, "manifest_sha256": digest}


def fetch(module: AnsibleModule, layout: Layout, lock_fd: int) -> None:
    """Fill the content directory from the source that the options name."""
    params = module.params
    if params["source"] == "path":
        import_path(layout, Path(params["src"]), move=params["move"])
    elif params["source"] == "url":
        if params["proxy"]:
            os.environ.update(dict.fromkeys(hub.PROXY_VARIABLES, params["proxy"]))
        archive.fetch(params["url"], params["url_sha256"], layout.archive, params["ca_bundle"])
        archive.unpack(layout.archive, layout.content)
    else:
        if not params["tools_venv"]:
            raise ModelError("tools_venv is not set.", "A hub's own tools do the download.")
        token = hub.read_token(Path(params["hub_token_file"])) if params["hub_token_file"] else None
        if token:
            module.no_log_values.add(token)
        access = hub.Hub(
            run_command=module.run_command,
            kind=params["hub"],
            tools_venv=Path(params["tools_venv"]),
            home=layout.home,
            endpoint=params["hub_endpoint"],
            token=token,
            proxy=params["proxy"],
            ca_bundle=params["ca_bundle"],
            exclude=tuple(hub.patterns_of(params["hub_exclude"])),
            lock_fd=lock_fd,
        )
        hub.download(access, params["name"], params["revision"], layout.content)


def create(module: AnsibleModule, layout: Layout, origin: Origin) -> bool:
    """Build the revision and publish it; return False when another run did so meanwhile."""
    with hold_lock(layout, module.params["lock_wait"]) as lock:
        if layout.dest.exists():
            discard(layout)
            return False
        prepare(layout, origin)
        fetch(module, layout, lock.fileno())
        patterns = origin.get("exclude", [])
        problems = find_problems(
            layout.content, scan(layout.content), lambda name: hub.excluded(name, patterns)
        )
        if problems:
            raise ModelError(
                f"The source is not a whole model: {'; '.join(problems)}.",
                "Complete or replace it at the source, then run again.",
            )
        publish(layout, origin, module.params["manifest_sha256"])
    return True


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options ask for; return the module's result. Raises ModelError."""
    params = module.params
    require_valid(params)
    layout = Layout(Path(params["root"]), params["name"], params["revision"])
    origin = origin_of(params)
    result: dict[str, Any] = {
        "changed": False,
        "path": str(layout.dest),
        "name": params["name"],
        "revision": params["revision"],
        "source": origin["source"],
    }
    if layout.dest.exists():
        return {**result, **verify(params, layout, origin)}
    if module.check_mode:
        result["changed"] = True
    else:
        result["changed"] = create(module, layout, origin)
        result.update(verify(params, layout, origin))
    result["diff"] = {
        "before": {"path": str(layout.dest), "state": "absent"},
        "after": {"path": str(layout.dest), "state": "present", "source": origin["source"]},
    }
    return result


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS, required_if=REQUIRED_IF, supports_check_mode=True
    )
    try:
        module.exit_json(**run(module))
    except ModelError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"The model revision could not be built: {error}.")


if __name__ == "__main__":
    main()
