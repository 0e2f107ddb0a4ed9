#!/usr/bin/python
# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: llm_health
short_description: Wait until vLLM, the gateway and the chat really answer
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - Asks vLLM instances, the gateway and Chainlit what a user would ask, and waits until all of
    them answer well or a deadline passes.
  - An open port or a status of 200 is not taken for health. A stopped vLLM engine answers 200 on
    C(/health), and Chainlit answers 200 on any path.
  - Each check climbs levels and stops at the first that fails. vLLM and the gateway have
    V(port), V(http), V(model), V(token) and V(canary); Chainlit has V(port), V(http), V(socket)
    and, with O(targets[].chat_turn), V(turn).
  - The module only reads. A level of V(token) or above, and a chat turn, generate a few tokens.
attributes:
  check_mode:
    description: Runs as usual, as nothing is changed.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
options:
  targets:
    description: What to check. All targets are checked at the same time.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the target in results and messages.
        type: str
        required: true
      kind:
        description: What answers there. A gateway is asked for C(/v1/health), vLLM for C(/health).
        type: str
        choices: [vllm, gateway, chainlit]
        default: vllm
      url:
        description: Base address, such as C(http://127.0.0.1:8000), without C(/v1).
        type: str
        required: true
      served_model_name:
        description: Model that must be served. Without it the first one listed is used.
        type: str
        default: ""
      level:
        description: How far to go with vLLM or a gateway. Each level includes those before it.
        type: str
        choices: [port, http, model, token, canary]
        default: token
      canary:
        description: A question with a known answer, for level V(canary).
        type: dict
        suboptions:
          prompt:
            description: The question, answered greedily.
            type: str
            required: true
          expect:
            description: Regular expression that must be found in the answer.
            type: str
            required: true
          max_tokens:
            description: Length of the answer in tokens.
            type: int
            default: 32
      api_key:
        description: API key, sent as a bearer token.
        type: str
      chat_turn:
        description: Whether to send a message to the chat and read its answer.
        type: bool
        default: false
      session_secret:
        description:
          - What the chat signs sessions with, C(chainlit_auth_secret), where people log in. The
            turn is held in a session of its own, of which the chat keeps nothing.
        type: str
      question:
        description: What the chat turn asks.
        type: str
        default: What is the capital of France?
      expect:
        description: Regular expression that must be found in the chat's answer.
        type: str
        default: .
      ca_path:
        description: File of certificate authorities to trust in place of the system's.
        type: path
      validate_certs:
        description: Whether to verify the certificate and the host name of an C(https) address.
        type: bool
        default: true
  deadline:
    description: Seconds until all targets must be ready.
    type: float
    default: 60
  interval:
    description: Seconds between two checks of a target that is not ready.
    type: float
    default: 2
  probe_timeout:
    description: Seconds for one check. A hang is told from load by watching for this long.
    type: float
    default: 20
notes:
  - A wrong model or a wrong answer of vLLM is confirmed once and then not waited for.
  - A refused port reads V(dead) whether the server is down or still loading its model.
"""

EXAMPLES = r"""
- name: Wait until the new release answers a question
  gpufleet.llm.llm_health:
    deadline: 900
    targets:
      - name: qwen3
        url: http://127.0.0.1:8000
        served_model_name: qwen3-0.6b-fp8
        level: canary
        canary:
          prompt: What is the capital of France?
          expect: Paris

- name: Verify the service from the control node, as a user would
  gpufleet.llm.llm_health:
    targets:
      - name: gateway
        kind: gateway
        url: https://llm.example.com
        api_key: "{{ client_api_key }}"
      - name: chat
        kind: chainlit
        url: https://llm.example.com
        chat_turn: true
        expect: Paris
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
ready:
  description: Whether all targets are ready.
  type: bool
  returned: always
  sample: true
seconds:
  description: How long the module waited.
  type: float
  returned: always
  sample: 61.5
checks:
  description: The last check of each target, in the order given.
  type: list
  elements: dict
  returned: always
  contains:
    target:
      description: Name of the target.
      type: str
      sample: qwen3
    kind:
      description: Kind of the target.
      type: str
      sample: vllm
    url:
      description: Address that was asked.
      type: str
      sample: http://127.0.0.1:8000
    state:
      description:
        - V(ready) when every level asked for has passed.
        - V(busy) when it is alive under load, V(hung) when it accepts requests and generates
          nothing, V(dead) when nothing answers or the engine is gone.
        - V(wrong_model) or V(wrong_answer) when it answers, but not what was asked for.
      type: str
      sample: ready
    level:
      description: Level reached when ready, else the level that failed.
      type: str
      sample: canary
    seconds:
      description: How long the check took.
      type: float
      sample: 0.412
    detail:
      description: What was seen, in one line.
      type: str
      sample: canary answered as expected (/Paris/)
    attempts:
      description: How often the target was checked.
      type: int
      sample: 3
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.llm.plugins.module_utils._probe import (
    Canary,
    Check,
    Client,
    Level,
    State,
    Target,
    check,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._probe_chainlit import (
    Turn,
    check_chainlit,
)

CANARY_SPEC: dict[str, Any] = {
    "prompt": {"type": "str", "required": True},
    "expect": {"type": "str", "required": True},
    "max_tokens": {"type": "int", "default": 32, "no_log": False},
}

TARGET_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "kind": {"type": "str", "choices": ["vllm", "gateway", "chainlit"], "default": "vllm"},
    "url": {"type": "str", "required": True},
    "served_model_name": {"type": "str", "default": ""},
    "level": {
        "type": "str",
        "choices": ["port", "http", "model", "token", "canary"],
        "default": "token",
    },
    "canary": {"type": "dict", "options": CANARY_SPEC},
    "api_key": {"type": "str", "no_log": True},
    "chat_turn": {"type": "bool", "default": False},
    "session_secret": {"type": "str", "no_log": True},
    "question": {"type": "str", "default": "What is the capital of France?"},
    "expect": {"type": "str", "default": "."},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
}

UNITS = {"gateway": "nginx", "chainlit": "chainlit"}

REMEDIES: dict[State, str] = {
    "starting": "wait, or raise the deadline",
    "busy": "it is alive under load: wait, raise the deadline, or add capacity",
    "hung": "the guard restarts a hung vLLM: check again, then see journalctl -n 100 -u {unit}",
    "dead": "read its journal: journalctl -n 100 -u {unit}",
    "wrong_model": "compare served_model_name with what runs on this port",
    "wrong_answer": "check the API key, then dtype, quantization and model revision",
}


@dataclass
class Checked:
    """A target's parameters and its checks so far."""

    params: dict[str, Any]
    client: Client
    last: Check | None = None
    attempts: int = 0
    certain: bool = False

    def look(self, timeout: float, cut_short: bool) -> None:
        """Check once, within ``timeout`` seconds; ``cut_short``: a whole probe gets more."""
        before = self.last
        seen = self._check(timeout)
        self.attempts += 1
        if cut_short and seen.state == "hung" and before is not None:
            # Silence for a moment is no hang: what a whole probe found still holds.
            return
        self.last = seen
        # Behind a gateway or in front of one, the next answer may come from another server.
        self.certain = (
            self.params["kind"] == "vllm" and before is not None and before.final and seen.final
        )

    @property
    def ready(self) -> bool:
        """True when the last check passed."""
        return self.last is not None and self.last.ready

    def record(self) -> dict[str, Any]:
        """Return one entry of ``checks``."""
        seen = self.last.as_dict() if self.last else {}
        seen.pop("final", None)
        return {
            "target": self.params["name"],
            "kind": self.params["kind"],
            "url": self.client.url,
            **seen,
            "attempts": self.attempts,
        }

    def complaint(self) -> str:
        """Return what is wrong with this target, and what to do next."""
        if self.last is None:
            return f"{self.params['name']} was not checked"
        unit = UNITS.get(self.params["kind"], f"vllm@{self.params['name']}")
        remedy = REMEDIES.get(self.last.state, "").format(unit=unit)
        return (
            f"{self.params['name']} ({self.client.url}) is {self.last.state} at level "
            f"{self.last.level}: {self.last.detail}. Next: {remedy}."
        )

    def _check(self, timeout: float) -> Check:
        params = self.params
        if params["kind"] == "chainlit":
            turn = Turn(params["question"], params["expect"], params["session_secret"] or "")
            return check_chainlit(self.client, turn if params["chat_turn"] else None, timeout)
        canary = Canary(**params["canary"]) if params["canary"] else None
        target = Target(self.client, params["served_model_name"], canary, params["kind"])
        level: Level = params["level"]
        return check(target, level, timeout)


def prepare(params: dict[str, Any]) -> Checked:
    """Validate one target's parameters; raise ValueError with what to write instead."""
    name = params["name"]
    patterns = [params["expect"], params["canary"]["expect"] if params["canary"] else ""]
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{name}: expect {pattern!r} is not a regular expression: {error}"
            ) from error
    try:
        client = Client(
            params["url"],
            api_key=params["api_key"],
            ca_path=params["ca_path"],
            validate_certs=params["validate_certs"],
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    except OSError as error:
        path = params["ca_path"]
        raise ValueError(f"{name}: ca_path {path} cannot be used: {error}") from error
    return Checked(params, client)


def wait_for(targets: list[Checked], deadline: float, interval: float, timeout: float) -> None:
    """Check targets until all are ready, the deadline passes, or waiting is of no use."""
    end = time.monotonic() + deadline

    def look(target: Checked) -> None:
        left = end - time.monotonic()
        target.look(max(0.1, min(timeout, left)), cut_short=left < timeout)

    with ThreadPoolExecutor(max_workers=min(32, len(targets))) as pool:
        pending = targets
        while pending:
            for done in [pool.submit(look, target) for target in pending]:
                done.result()
            pending = [target for target in targets if not target.ready]
            left = end - time.monotonic()
            if left <= 0 or (pending and all(target.certain for target in pending)):
                return
            if pending:
                time.sleep(min(interval, left))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "targets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": TARGET_SPEC,
                "required_if": [("level", "canary", ["canary"])],
            },
            "deadline": {"type": "float", "default": 60},
            "interval": {"type": "float", "default": 2},
            "probe_timeout": {"type": "float", "default": 20},
        },
        supports_check_mode=True,
    )
    params = module.params
    for option in ("deadline", "interval", "probe_timeout"):
        if params[option] <= 0:
            module.fail_json(msg=f"{option} must be above 0 seconds")
    if not params["targets"]:
        module.fail_json(msg="targets is empty: name at least one target to check")
    try:
        targets = [prepare(target) for target in params["targets"]]
    except ValueError as error:
        module.fail_json(msg=str(error))

    started = time.monotonic()
    wait_for(targets, params["deadline"], params["interval"], params["probe_timeout"])
    seconds = round(time.monotonic() - started, 1)
    waiting = [target for target in targets if not target.ready]
    result: dict[str, Any] = {
        "changed": False,
        "ready": not waiting,
        "seconds": seconds,
        "checks": [target.record() for target in targets],
    }
    if waiting:
        summary = f"{len(waiting)} of {len(targets)} targets not ready after {seconds:g} s. "
        module.fail_json(msg=summary + " ".join(t.complaint() for t in waiting), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
