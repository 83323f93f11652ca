"""``python -m heavylift_local.tables --config FILE``: prints {"ready":true,"port":Q,"pid":N}, serves until SIGTERM.

The configuration: {"port","data","region","account","admin_token","tables":[{"name","partition_key",
"sort_key","ttl_attribute","indexes":[{"name","partition_key","sort_key"}]}],"callers":[{"name",
"access_key","grants":[{"actions","resources"}]}],"time_scale","call_sink":URL|null,"own_ports":bool|{name: port}}.
With own_ports every caller has a port to itself, and the ready line names them as "ports": where all share one
access key there is nothing else to tell them apart by.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="heavylift_local.tables")
    parser.add_argument("--config", type=Path, required=True)
    config = json.loads(parser.parse_args(argv).config.read_text(encoding="utf-8"))
    # moto reads both when it is imported.
    os.environ["MOTO_ACCOUNT_ID"] = config["account"]
    os.environ["AWS_DEFAULT_REGION"] = config["region"]

    from heavylift_local.tables.server import TableService, make_server

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    service = TableService(config)
    servers = [make_server(service, int(config.get("port") or 0))]
    ports: dict[str, int] = {}
    if own := config.get("own_ports"):
        for caller in config["callers"]:
            name = caller["name"]
            servers.append(make_server(service, own.get(name, 0) if isinstance(own, dict) else 0))
            ports[name] = servers[-1].port
            service.caller_of_port[str(servers[-1].port)] = name
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.1,), name="tables", daemon=True).start()
    service.start()
    print(json.dumps({"ready": True, "port": servers[0].port, "ports": ports, "pid": os.getpid()}), flush=True)
    stop.wait()
    for server in servers:
        server.shutdown()
    service.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
