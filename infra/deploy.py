"""``make bootstrap | deploy | destroy``: what is needed is there, then the CDK command line does the rest.

Whatever would fail half-way is asked first, and answered with a sentence.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra import topology
from infra.app import ROOT, STAGE, layer_names
from infra.config import Config, ConfigError, load_stage
from infra.node import NoNode, choose_node

# ELF's e_machine ("ELF-64 Object File Format") of what Lambda runs on.
MACHINES = {"arm64": 0xB7, "x86_64": 0x3E}
# What is there for its own sake: nothing of it is kept when it goes. The rest holds people and data.
DESTROYED = ("observability", "backfill", "api", "processing")


class NotReady(RuntimeError):
    """Something is missing that a deployment needs; the sentence says what to do."""


def check_layers(root: Path, config: Config) -> None:
    """That every layer is built, and for the stage's machine. Raises NotReady."""
    command = "make layers" + (
        "" if config.architecture == topology.ARCHITECTURE else f" ARCHITECTURE={config.architecture}"
    )
    built = root / "build" / "layers"
    others = [name for name in layer_names() if name != topology.SHARED_LAYER]
    missing = [name for name in others if not (built / name / "python").is_dir()]
    if missing:
        raise NotReady(f"layers {', '.join(missing)} are not built; run `{command}` first")
    for name in others:
        for path in sorted((built / name).rglob("*.so*")):
            machine = machine_of(path)
            if machine not in (None, MACHINES[config.architecture]):
                raise NotReady(f"layer {name} is built for another machine than {config.architecture}; run `{command}`")


def machine_of(path: Path) -> int | None:
    """The machine that an ELF file is for; None for anything else."""
    with open(path, "rb") as file:
        head = file.read(20)
    return int.from_bytes(head[18:20], "little") if head[:4] == b"\x7fELF" and len(head) == 20 else None


def check_stage(config: Config) -> None:
    """That nothing in the stage is a placeholder. Raises NotReady."""
    if config.placeholders():
        raise NotReady(f"{', '.join(config.placeholders())} of this stage end on .invalid: they are examples")


def cdk_command(root: Path, environment: Mapping[str, str]) -> list[str]:
    """Node and the pinned command line; installed by npm where it is not there. Raises NotReady, NoNode."""
    node = choose_node(environment)
    program = root / "infra" / "node_modules" / "aws-cdk" / "bin" / "cdk"
    if not program.is_file():
        npm = npm_of(node)
        if npm is None:
            raise NotReady("the CDK command line is not installed and there is no npm: run `npm ci --prefix infra`")
        subprocess.run([*npm, "ci", "--prefix", str(root / "infra"), "--no-fund", "--no-audit"], check=True, cwd=root)
    return [node, str(program)]


def npm_of(node: str) -> list[str] | None:
    """npm as this Node runs it: the one beside it, or the machine's."""
    for folder in (Path(node).resolve().parent.parent / "lib", Path(node).resolve().parent):
        script = folder / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if script.is_file():
            return [node, str(script)]
    found = shutil.which("npm")
    return [found] if found else None


def outputs_file(root: Path, stage: str) -> Path:
    """Where a deployment's outputs are left, for the smoke test and for people."""
    return root / "build" / "outputs" / f"{Path(stage).stem}.json"


def arguments_of(what: str, stage: str, config: Config, outputs: Path) -> list[str]:
    """The command line's arguments. A deployment is refused while a warning stands (``--strict``)."""
    chosen = ["-c", f"{STAGE}={stage}"]
    if what == "bootstrap":
        return ["bootstrap", *chosen]
    if what == "destroy":
        return ["destroy", *(f"{config.deployment}-{name}" for name in DESTROYED), "--exclusively", *chosen]
    return ["deploy", "--all", "--strict", "--outputs-file", str(outputs), *chosen]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        prog="infra.deploy", description="Make an account ready, deploy a stage, or take it down."
    )
    parser.add_argument("what", choices=("bootstrap", "deploy", "destroy"))
    parser.add_argument("--stage", default="default")
    options = parser.parse_args(arguments)
    try:
        config = load_stage(options.stage)
        if options.what == "deploy":
            check_stage(config)
            check_layers(root, config)
        environment = {**os.environ, "JSII_NODE": choose_node(os.environ)}
        command = cdk_command(root, environment)
    except (ConfigError, NotReady, NoNode) as error:
        print(f"{options.what}: {error}", file=sys.stderr)
        return 1
    outputs = outputs_file(root, options.stage)
    outputs.parent.mkdir(parents=True, exist_ok=True)
    told = arguments_of(options.what, options.stage, config, outputs)
    status = subprocess.run([*command, *told], cwd=root, env=environment).returncode
    if options.what == "destroy" and status == 0:
        print(
            f"{config.deployment}-front and {config.deployment}-storage stay: they hold people and data "
            "(docs/operations.md says how they go)",
            file=sys.stderr,
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
