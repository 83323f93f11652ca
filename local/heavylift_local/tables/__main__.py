"""``python -m heavylift_local.tables --config FILE``: prints {"ready":true,"port":Q,"pid":N}, serves until SIGTERM.

The configuration: {"port","data","region","account","admin_token","tables":[{"name","partition_key",
"sort_key","ttl_attribute","indexes":[{"name","partition_key","sort_key"}]}],"callers":[{"name",
"access_key","grants":[{"actions","resources"}]}]}.
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
    server = make_server(service, int(config.get("port") or 0))
    threading.Thread(target=server.serve_forever, args=(0.1,), name="tables", daemon=True).start()
    print(json.dumps({"ready": True, "port": server.port, "pid": os.getpid()}), flush=True)
    stop.wait()
    server.shutdown()
    service.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
