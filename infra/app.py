"""Synthesises the system: ``python infra/app.py [--stage NAME] [--output DIR]``, or by the CDK command line.

Needs no account, no network and no Docker. Layers that are not built (``build/layers/<name>``) are stood in for by
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
    from aws_cdk import App, Stack

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__" and Path(sys.path[0]).resolve() == ROOT / "infra":
    sys.path[0] = str(ROOT)  # started as a file: this folder has a "constructs" of its own

from infra import topology  # noqa: E402
from infra.agreement import Templates, differences  # noqa: E402
from infra.config import Config, ConfigError, load_stage  # noqa: E402
from infra.findings import read_findings, unexplained  # noqa: E402
from infra.node import NoNode, choose_node  # noqa: E402

PREFIX = "heavylift:"
STAGE = f"{PREFIX}stage"
STUB_NOTE = "This layer has not been built; functions that import from it cannot start.\n"


def read_context(path: Path) -> dict[str, object]:
    """cdk.json's context: only the CDK command line reads it by itself."""
    context = json.loads(path.read_text())["context"]
    assert isinstance(context, dict)
    return context


def layer_names() -> tuple[str, ...]:
    """Every layer that a function of the topology has."""
    return tuple(
        sorted({name for function in topology.FUNCTIONS for name in function.layers} | {topology.SHARED_LAYER})
    )


def find_layers(root: Path, stubs: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """(folder of every layer, names of those that are not built and have a stub below ``stubs``).

    The shared one is a folder of the repository, ``layers/heavylift``; the others are built into ``build/layers``.
    """
    folders = {
        name: root / "layers" / name if name == topology.SHARED_LAYER else root / "build" / "layers" / name
        for name in layer_names()
    }
    missing = tuple(name for name, folder in folders.items() if not folder.is_dir() or not any(folder.iterdir()))
    for name in missing:
        (stubs / name).mkdir(parents=True, exist_ok=True)
        (stubs / name / "NOT_BUILT.txt").write_text(STUB_NOTE)
    return {name: stubs / name if name in missing else folder for name, folder in folders.items()}, missing


def empty(folder: Path) -> None:
    """Removes an earlier cloud assembly; refuses a folder that holds something else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "cdk.out").is_file():
        raise ConfigError(f"{folder} is no cloud assembly; it is not emptied")
    shutil.rmtree(folder, ignore_errors=True)


def stage_of(context: Mapping[str, object]) -> Config:
    """The stage that a context names. Raises ConfigError, also for a key of ours that there is not."""
    unknown = sorted(key for key in context if key.startswith(PREFIX) and key != STAGE)
    if unknown:
        raise ConfigError(f"no such key: {unknown[0]}; what a stage is stands in infra/stages/")
    return load_stage(str(context.get(STAGE, "default")))


def synthesise(
    output: Path, context: Mapping[str, object], root: Path = ROOT, *, judge: bool = False
) -> tuple[Config, Templates]:
    """Writes the cloud assembly to ``output``; its templates by stack name. Raises ConfigError, NoNode.

    ``judge`` also lets AWS's rules for solutions look at it; what they find is in ``output``.
    """
    # What the command line was given by -c it hands on here, and that wins over cdk.json.
    context = {**context, **json.loads(os.environ.get("CDK_CONTEXT_JSON") or "{}")}
    config = stage_of(context)
    os.environ["JSII_NODE"] = choose_node(os.environ)
    import aws_cdk as cdk  # starts Node

    from infra.build import build

    # No analytics, no stack traces: the assembly holds what the system is, not what made it.
    context = {**context, "aws:cdk:disable-creation-stack-traces": True}
    app = cdk.App(context=context, outdir=str(output), analytics_reporting=False, stack_traces=False)
    layer_dirs, missing = find_layers(root, root / "build" / "layer-stubs")
    stacks = build(app, config, layer_dirs, root / "web")
    _warn(stacks, config, missing)
    if judge:
        _judge(app)
    else:
        app.synth()
    return config, {stack.stack_name: json.loads((output / stack.template_file).read_text()) for stack in stacks}


def _judge(app: App) -> None:
    """Synthesise under AWS's rules for solutions. Their findings are read from the report, explained or not."""
    from aws_cdk import Validations
    from cdk_nag import AwsSolutionsChecks

    Validations.of(app).add_plugins(AwsSolutionsChecks(app, verbose=False))
    try:
        app.synth()
    except RuntimeError as error:
        # What the report holds is judged by infra.findings; anything else is a failure.
        if "ValidationFailed" not in repr(error) and "alidation failed" not in str(error):
            raise


def _warn(stacks: Sequence[Stack], config: Config, missing: Sequence[str]) -> None:
    """A warning, once each, for what keeps the assembly from being deployed as it is."""
    from aws_cdk import Annotations

    for key in config.placeholders():
        sentence = f"{key} of this stage is still a placeholder"
        Annotations.of(stacks[0]).add_warning_v2(f"{PREFIX}{key}", sentence)
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
    parser.add_argument("--stage", action="append", help="a file of infra/stages, or its name; several make several")
    parser.add_argument("--output", type=Path, default=Path(told) if told else ROOT / "cdk.out")
    parser.add_argument("--judge", action="store_true", help="also let cdk-nag judge the templates")
    options = parser.parse_args(arguments)
    context = read_context(ROOT / "cdk.json")
    wrong: list[str] = []
    try:
        for name in options.stage or [None]:
            output = options.output.resolve()
            if len(options.stage or ()) > 1:
                output /= Path(name).stem
            if not told:
                empty(output)
            chosen = context if name is None else {**context, STAGE: name}
            config, templates = synthesise(output, chosen, judge=options.judge)
            wrong += differences(topology, templates, config)
            if options.judge:
                wrong += unexplained(read_findings(output))
            for stack, template in templates.items():
                print(f"{stack}: {len(template['Resources'])} resources", file=sys.stderr)
    except (ConfigError, NoNode) as error:
        print(f"synth: {error}", file=sys.stderr)
        return 1
    for line in wrong:
        print(f"synth: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
