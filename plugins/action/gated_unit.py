# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of the module `gated_unit`: begins, looks every few seconds, tells progress."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

LOOK_EVERY_SECONDS = 3.0
TELL_EVERY_SECONDS = 15.0

display = Display()


class ActionModule(ActionBase):
    """Wait for a unit's gate on the control node."""

    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's result, failed with its errors when the gate did not pass."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        host, unit = variables.get("inventory_hostname", "host"), str(self._task.args.get("name"))
        deadline = float(self._task.args.get("deadline", 900))

        result = self._step("begin", variables)
        began = int(result.pop("began", 0))
        if result.get("failed") or self._task.check_mode:
            return result
        if not result["reason"] and not result["starting"]:
            return result
        if self._task.args.get("wants") is not None:
            return result  # a target has no gate

        why = result["reason"] or "an earlier run began it"
        display.display(f"{host}: {unit} starts ({why})")
        started = told = time.monotonic()
        while True:
            time.sleep(LOOK_EVERY_SECONDS)
            seen = self._step("look", variables, since=began)
            if seen.get("failed"):
                return seen
            now = time.monotonic()
            if seen["state"].startswith("deactivating"):
                started = now  # what ran before still drains, for as long as its unit allows
            result["state"], result["seconds"] = seen["state"], round(now - started, 1)
            last_line = (seen["journal"] or [""])[-1][:120]
            if seen["verdict"] == "ready":
                display.display(f"{host}: {unit} is ready after {now - started:.0f} s")
                return result
            if seen["verdict"] == "failed" or now - started > deadline:
                break
            if now - told >= TELL_EVERY_SECONDS:
                told = now
                display.display(
                    f"{host}: {unit} {now - started:.0f} s of {deadline:.0f} s: {last_line}"
                )

        why = "did not pass its gate" if seen["verdict"] == "failed" else "missed its deadline"
        errors = "\n".join(seen["errors"]) or "none"
        stopped = self._step("stop", variables)
        result.update(
            failed=True,
            state=stopped.get("state", seen["state"]),
            errors=seen["errors"],
            journal=seen["journal"],
            msg=(
                f"{unit} {why} after {result['seconds']:.0f} s ({seen['state']}, "
                f"result {seen['result']}) and was stopped. Its errors:\n{errors}\n"
                + "Its last lines:\n"
                + "\n".join(seen["journal"])
                + f"\nMore on the host: journalctl --unit {unit}"
            ),
        )
        return result

    def _step(self, step: str, variables: dict[str, Any], since: int = 0) -> dict[str, Any]:
        arguments = {**self._task.args, "step": step, "since": since}
        result: dict[str, Any] = self._execute_module(
            module_name="gpufleet.llm.gated_unit", module_args=arguments, task_vars=variables
        )
        return result
