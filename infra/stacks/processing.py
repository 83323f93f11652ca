"""What runs without a caller: one pipeline a lane, and the schedules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from constructs import Construct

from infra import topology
from infra.config import Config
from infra.constructs.handler import Surroundings
from infra.constructs.layers import Layers, names_of
from infra.constructs.pipeline import Pipeline, Scheduled
from infra.constructs.resources import Resources
from infra.stacks.storage import StorageStack


class ProcessingStack(cdk.Stack):
    """``pipelines`` by queue, and ``resources`` for the stacks after it."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        config: Config,
        storage: StorageStack,
        layer_dirs: Mapping[str, Path],
        **stack: Any,
    ) -> None:
        super().__init__(scope, construct_id, **stack)
        self.pipelines = {
            queue.name: Pipeline(
                self,
                f"Pipeline-{queue.name}",
                queue,
                [rule for rule in topology.rules(config.settings) if rule.queue == queue.name],
                storage.buckets,
                config.deployment,
            )
            for queue in topology.QUEUES
        }
        self.resources = Resources(
            buckets=storage.buckets,
            table=storage.table,
            queues={
                **{name: one.queue for name, one in self.pipelines.items()},
                **{f"{name}-dlq": one.dead_letters for name, one in self.pipelines.items()},
            },
            bus_name="default",
            bus_arn=self.format_arn(service="events", resource="event-bus", resource_name="default"),
            key_arn=storage.key.key_arn if storage.key else None,
        )
        functions = [one for one in topology.FUNCTIONS if one.source or one.schedule_minutes]
        layers = Layers(self, "Layers", config, layer_dirs, names_of(functions))
        surroundings = Surroundings(config, layers, self.resources)
        for function in functions:
            if function.source:
                self.pipelines[function.source.queue].run(function, surroundings)
            else:
                Scheduled(self, f"Scheduled-{function.name}", function, surroundings)
