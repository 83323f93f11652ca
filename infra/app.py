"""Synthesises the system: ``python infra/app.py [--output DIR]``, or through the CDK command line by cdk.json.

Needs no account, no network and no Docker. Layers that are not built (``layers/<name>/python``) are stood in for by
folders with nothing but a note, and the stacks say so in a warning, which ``cdk deploy --strict`` refuses.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_cdk import Stack

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__" and Path(sys.path[0]).resolve() == ROOT / "infra":
    sys.path[0] = str(ROOT)  # started as a file: this folder has a "constructs" of its own

from infra import topology  # noqa: E402
from infra.agreement import Templates, differences  # noqa: E402
from infra.config import KEYS, PREFIX, Config, ConfigError, read_config  # noqa: E402
from infra.node import NoNode, choose_node  # noqa: E402

STUB_NOTE = "This layer has not been built; functions that import from it cannot start.\n"


def read_context(path: Path) -> dict[str, object]:
    """cdk.json's context: only the CDK command line reads it by itself."""
    context = json.loads(path.read_text())["context"]
    assert isinstance(context, dict)
    return context


def find_layers(layers: Path, stubs: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """(folder of every layer, names of those that are not built and have a stub below ``stubs``)."""
    names = {name for function in topology.FUNCTIONS for name in function.layers} | {topology.SHARED_LAYER}
    missing = tuple(sorted(name for name in names if not (layers / name / "python").is_dir()))
    for name in missing:
        (stubs / name).mkdir(parents=True, exist_ok=True)
        (stubs / name / "NOT_BUILT.txt").write_text(STUB_NOTE)
    return {name: (stubs if name in missing else layers) / name for name in sorted(names)}, missing


def empty(folder: Path) -> None:
    """Removes an earlier cloud assembly; refuses a folder that holds something else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "cdk.out").is_file():
        raise ConfigError(f"{folder} is no cloud assembly; it is not emptied")
    shutil.rmtree(folder, ignore_errors=True)


def synthesise(output: Path, context: Mapping[str, object], layers: Path = ROOT / "layers") -> tuple[Config, Templates]:
    """Writes the cloud assembly to ``output``; its templates by stack name. Raises ConfigError, NoNode."""
    os.environ["JSII_NODE"] = choose_node(os.environ)
    import aws_cdk as cdk  # starts Node

    from infra.build import build

    # No analytics, no stack traces: the assembly holds what the system is, not what made it.
    context = {**context, "aws:cdk:disable-creation-stack-traces": True}
    app = cdk.App(context=context, outdir=str(output), analytics_reporting=False, stack_traces=False)
    # Asked of the app, because the command line's -c wins over cdk.json.
    keys = {f"{PREFIX}{key}" for key in KEYS} | {key for key in context if key.startswith(PREFIX)}
    told = {key: app.node.try_get_context(key) for key in sorted(keys)}
    config = read_config({key: value for key, value in told.items() if value is not None})
    layer_dirs, missing = find_layers(layers, ROOT / "build" / "layer-stubs")
    stacks = build(app, config, layer_dirs)
    _warn(stacks, config, missing)
    app.synth()
    return config, {stack.stack_name: json.loads((output / stack.template_file).read_text()) for stack in stacks}


def _warn(stacks: Sequence[Stack], config: Config, missing: Sequence[str]) -> None:
    """A warning, once each, for what keeps the assembly from being deployed as it is."""
    from aws_cdk import Annotations

    told = {f"{PREFIX}{key}": f"{PREFIX}{key} in cdk.json is still a placeholder" for key in config.placeholders()}
    for identifier, sentence in told.items():
        Annotations.of(stacks[0]).add_warning_v2(identifier, sentence)
    for name in missing:
        for stack in stacks:
            layers = stack.node.try_find_child("Layers")
            if layers is not None and layers.node.try_find_child(name) is not None:
                sentence = f"layer {name} is not built: a stub stands in its place"
                Annotations.of(stack).add_warning_v2(f"{PREFIX}layer-{name}", sentence)
                break


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="infra/app.py", description="Synthesise the CloudFormation templates.")
    told = os.environ.get("CDK_OUTDIR")  # set by the CDK command line, which looks after its folder itself
    parser.add_argument("--output", type=Path, default=Path(told) if told else ROOT / "cdk.out")
    output = parser.parse_args(arguments).output.resolve()
    try:
        if not told:
            empty(output)
        config, templates = synthesise(output, read_context(ROOT / "cdk.json"))
    except (ConfigError, NoNode) as error:
        print(f"synth: {error}", file=sys.stderr)
        return 1
    wrong = differences(topology, templates, config)
    for line in wrong:
        print(f"synth: {line}", file=sys.stderr)
    for name, template in templates.items():
        print(f"{name}: {len(template['Resources'])} resources", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
