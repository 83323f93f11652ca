"""The whole system as CDK stacks. The app and the tests build the same thing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import aws_cdk as cdk

from infra.config import Config
from infra.stacks.api import ApiStack
from infra.stacks.observability import ObservabilityStack
from infra.stacks.processing import ProcessingStack
from infra.stacks.storage import StorageStack


def build(app: cdk.App, config: Config, layer_dirs: Mapping[str, Path]) -> tuple[cdk.Stack, ...]:
    """Stacks in the order of deployment; ``layer_dirs`` has a folder for every layer of the topology."""
    name = config.deployment
    storage = StorageStack(app, f"{name}-storage", config, description="heavylift: buckets and table")
    processing = ProcessingStack(
        app, f"{name}-processing", config, storage, layer_dirs, description="heavylift: pipelines and schedules"
    )
    api = ApiStack(
        app,
        f"{name}-api",
        config,
        processing.resources,
        layer_dirs,
        description="heavylift: HTTP API and its functions",
    )
    observability = ObservabilityStack(
        app, f"{name}-observability", config, processing.pipelines.values(), description="heavylift: alarms"
    )
    return storage, processing, api, observability
