"""A Ray cluster whose nodes share nothing but a bucket, in a process of its own.

    python -m tests.harness.nodes URL CACHES

runs `WARM` through the cluster's address, each node with a cache folder of its own, and kills a
node that works.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from harness.lab import Lab
from harness.study import WarmStart
from harness.training.data.buckets import Bucket
from tests.harness.conftest import TINY

WARM = TINY.model_copy(update={"name": "warm", "warm_start": WarmStart()}).with_fields(
    {"budget.steps": 60, "measure.checkpoints": 3, "measure.points": 6}
)
"""Long enough for a node to be killed in the middle of a run, and to start from the same towers."""


def main(url: str, caches: Path) -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["FUSELAB_CACHE"] = str(caches / "driver")
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20}
    head = {"num_cpus": 0, "include_dashboard": False, **small}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [
        cluster.add_node(num_cpus=1, env_vars={"FUSELAB_CACHE": str(caches / f"node {n}")}, **small)
        for n in range(2)
    ]
    bucket = Bucket(url)

    def kill_one() -> None:
        """On a busy machine the other node may be at its first checkpoint before this one began."""
        towers = "outputs/*/shared/warm_start/*/vit.safetensors"
        while not (
            any((caches / "node 0").glob(towers))
            and any(name.endswith("checkpoint.pt") for name in bucket.list("runs"))
        ):
            time.sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)
        print("killed a node", flush=True)

    threading.Thread(target=kill_one, daemon=True).start()
    print(*Lab(url).run(WARM, address=cluster.address).values(), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
