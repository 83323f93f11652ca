"""The layers of one stack.

Each stack has layer versions of its own, made from the same assets: a layer version is replaced whenever its content
changes, and CloudFormation refuses to change an export that another stack uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra import topology
from infra.config import Config
from layers.made import is_for_other

# What tests, editors and installs leave behind; it would change an asset's hash and with it the function.
LEFT_OUT = ["**/__pycache__", "**/*.pyc", "**/*.egg-info", "**/.*"]

RUNTIMES = {"python3.13": lambda_.Runtime.PYTHON_3_13}
ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}


class Layers(Construct):
    """``of(function)``: the layer versions that a function of the topology has, the shared one last.

    Later layers are unpacked over earlier ones; our package overwrites nobody's.
    """

    def __init__(
        self, scope: Construct, construct_id: str, config: Config, layer_dirs: Mapping[str, Path], names: Iterable[str]
    ) -> None:
        super().__init__(scope, construct_id)
        self._versions = {
            name: lambda_.LayerVersion(
                self,
                name,
                layer_version_name=f"{config.deployment}-{name}",
                code=lambda_.Code.from_asset(str(layer_dirs[name]), exclude=LEFT_OUT),
                compatible_runtimes=[RUNTIMES[topology.RUNTIME]],
                compatible_architectures=[ARCHITECTURES[config.architecture]],
            )
            for name in sorted({*names, topology.SHARED_LAYER})
        }
        ours = config.architecture
        for name in self._versions:
            if is_for_other(layer_dirs[name], ours):
                sentence = f"layer {name} is not built for {ours}: make layers ARCHITECTURE={ours}"
                cdk.Annotations.of(self).add_warning_v2(f"heavylift:layer-{name}", sentence)

    def of(self, function: topology.Function) -> list[lambda_.ILayerVersion]:
        return [self._versions[name] for name in (*function.layers, topology.SHARED_LAYER)]


def names_of(functions: Iterable[topology.Function]) -> set[str]:
    """The layers that these functions have between them."""
    return {name for function in functions for name in function.layers}
