"""Events that never come: the sweeper finds what they would have told, within two of its runs."""

from __future__ import annotations

import random
import time

import pytest

from heavylift_local.testing import RunningStack, running_stack
from tests.interop.conftest import Desk, write_tiff

pytestmark = pytest.mark.xdist_group("lost-events")
TIME_SCALE = 90  # a run every 10 s; a file that waits is looked at after 7 s
STAGES = {"created": 0, "uploading": 0, "assembling": 1, "staged": 2, "validating": 3, "promoting": 4, "fresh": 5}


def runs_of_the_sweeper(stack: RunningStack) -> int:
    return int(stack.state()["functions"]["sweep"]["invocations"])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("files", [12, pytest.param(200, marks=pytest.mark.full)])
def test_thirty_percent_lost(tmp_path_factory: pytest.TempPathFactory, files: int) -> None:
    """While it lasts each run moves every stuck file on; two runs after it ended every file is at its end."""
    rng = random.Random(3)
    picture = write_tiff(tmp_path_factory.mktemp("lost") / "p.tif", 300, 200).read_bytes()
    with running_stack(env={"HEAVYLIFT_TIME_SCALE": str(TIME_SCALE)}) as stack:
        desk = Desk(stack, stack.token("lost"), "lost")
        stack.faults({"events": {"drop": 0.3, "seed": 11}})
        ids = []
        for number in range(files):
            data = (picture, b"a line of text\n")[number % 2] + rng.randbytes(4).hex().encode()
            ids.append(desk.send_bytes(f"{number}.{('tif', 'txt')[number % 2]}", data))
        large = desk.initiate("large.bin", 17 << 20)
        desk.send_parts(large, bytes(17 << 20))
        ids.append(large["upload_id"])

        def open_ones() -> dict[str, int]:
            records = {file_id: desk.call("GET", f"/v1/files/{file_id}") for file_id in ids}
            return {file_id: STAGES.get(one["status"], 6) for file_id, one in records.items() if not one["final"]}

        time.sleep(2)
        stuck = open_ones()
        assert stuck, "nothing was lost: the test would show nothing"
        # Two runs: what came to its state just before the first is looked at by the second.
        start = runs_of_the_sweeper(stack)
        while runs_of_the_sweeper(stack) < start + 2:
            time.sleep(0.2)
        time.sleep(2)
        later = open_ones()
        assert all(later.get(file_id, 9) > stage for file_id, stage in stuck.items()), (stuck, later)

        stack.faults({})
        start = runs_of_the_sweeper(stack)
        while open_ones() and runs_of_the_sweeper(stack) <= start + 2:
            time.sleep(0.3)
        assert open_ones() == {}
        assert {desk.call("GET", f"/v1/files/{one}")["status"] for one in ids} == {"completed"}
        stored = desk.s3().list_object_versions(Bucket=desk.bucket("store"), Prefix="files/lost/")["Versions"]
        assert sorted(one["Key"] for one in stored) == sorted(f"files/lost/{one}" for one in ids)
