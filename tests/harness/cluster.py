"""A Ray cluster of several nodes on this machine, in a process of its own: what a test starts.

    python -m tests.harness.cluster OUTPUTS OWN_FILE

runs `tiny` through the cluster's address and kills a node that works; then the study in OWN_FILE,
which is taken away as soon as its first run has been handed out. There are two nodes with one
processor each, then one, then two again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from harness.lab import Lab
from tests.harness.conftest import TINY
from tests.harness.golden import SHELF

CUT = TINY.with_fields({"budget.steps": 60, "measure.checkpoints": 3, "measure.points": 6})
"""Long enough for a node to be killed in the middle of a run."""


def main(outputs: Path, own_file: Path) -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray
    from ray.cluster_utils import Cluster

    from harness.planning.shelf import load
    from harness.scheduling.on_ray import Workers

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
    lab = Lab(outputs)

    def kill_one() -> None:
        while not any(_step(path) > 10 for path in outputs.glob("runs/*/status.json")):
            time.sleep(0.05)
        cluster.remove_node(nodes[0], allow_graceful=False)
        print("killed a node", flush=True)

    threading.Thread(target=kill_one, daemon=True).start()
    print(*lab.run(CUT, address=cluster.address).values(), flush=True)
    ray.shutdown()

    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    start = Workers.start

    def taking_away(self: Workers, *run: object, **how: bool) -> object:
        handle = start(self, *run, **how)
        own_file.unlink(missing_ok=True)
        return handle

    Workers.start = taking_away  # type: ignore[method-assign, assignment]
    print(*lab.run(load(str(own_file), SHELF), address=cluster.address).values(), flush=True)
    ray.shutdown()
    cluster.shutdown()


def _step(status: Path) -> int:
    from harness.outputs.folder import RunFolder

    return RunFolder(status.parents[2], status.parent.name).written_status().step


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
