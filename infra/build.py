"""The whole system as CDK stacks. The app and the tests build the same thing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import aws_cdk as cdk

from infra.backfill import target
from infra.config import Config
from infra.stacks import firewall
from infra.stacks.api import ApiStack
from infra.stacks.backfill import BackfillStack
from infra.stacks.firewall import FirewallStack
from infra.stacks.front import FrontStack
from infra.stacks.observability import ObservabilityStack
from infra.stacks.processing import ProcessingStack
from infra.stacks.storage import StorageStack


def build(app: cdk.App, config: Config, layer_dirs: Mapping[str, Path], web: Path) -> tuple[cdk.Stack, ...]:
    """Stacks in the order of deployment; ``layer_dirs`` has a folder for every layer, ``web`` is the page's."""
    name = config.deployment
    here = cdk.Environment(account=config.account or None, region=config.region or None)

    def words(what: str) -> str:
        return f"heavylift: {what}"

    front = FrontStack(app, f"{name}-front", config, web, env=here, description=words("API, page, identity"))
    before: tuple[cdk.Stack, ...] = ()
    if config.protection.firewall:
        there = cdk.Environment(account=config.account or None, region=firewall.REGION)
        acl = FirewallStack(app, f"{name}-firewall", config, env=there, description=words("the distribution's web ACL"))
        front.add_stack_dependency(acl)
        before = (acl,)
    storage = StorageStack(
        app, f"{name}-storage", config, front.origins, env=here, description=words("buckets and table")
    )
    processing = ProcessingStack(
        app, f"{name}-processing", config, storage, layer_dirs, env=here, description=words("pipelines and schedules")
    )
    api = ApiStack(
        app,
        f"{name}-api",
        config,
        front,
        processing.resources,
        layer_dirs,
        env=here,
        description=words("routes and their functions"),
    )
    backfill = BackfillStack(
        app,
        f"{name}-backfill",
        config,
        processing.resources,
        api.handlers[target().name],
        env=here,
        description=words("one thing done to many files"),
    )
    observability = ObservabilityStack(
        app,
        f"{name}-observability",
        config,
        front.api.ref,
        env=here,
        description=words("alarms, dashboard, events' schemas"),
    )
    return *before, front, storage, processing, api, backfill, observability
