"""The examples of docs/cluster are what Ray's launcher and its part of KubeRay accept."""

from __future__ import annotations

import copy
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.kuberay import autoscaling_config as kuberay
from ray.autoscaler._private.util import prepare_config, validate_config

from harness.commands.main import app
from harness.planning.shelf import names
from tests.harness.golden import SHELF

CLUSTER = Path(__file__).parents[1] / "docs" / "cluster"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def ray_cluster(name: str) -> dict[str, Any]:
    """The cluster that a file of KubeRay describes, as the operator makes it."""
    its = documents(name)[-1]
    if its["kind"] == "RayJob":
        its = {"spec": its["spec"]["rayClusterSpec"], "metadata": its["metadata"]}
    its["metadata"]["namespace"] = "default"
    return its


def test_the_launcher_takes_its_file() -> None:
    (config,) = documents("launcher.yaml")
    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(ValidationError):
        validate_config(prepare_config({**config, "worker_count": 3}))


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_kuberay_reads_its_files(name: str) -> None:
    cluster = ray_cluster(name)
    config = kuberay._derive_autoscaling_config_from_ray_cr(cluster)  # validates too
    groups = config["available_node_types"]
    assert groups["headgroup"]["resources"]["CPU"] == 0, "the head does no runs"
    assert groups["runs"]["resources"]["CPU"] == 8 and groups["runs"]["min_workers"] == 2
    assert cluster["spec"]["rayVersion"] == version("ray")
    claim = documents("raycluster.yaml")[0]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            shared = volumes[mounts["/shared"]]["persistentVolumeClaim"]["claimName"]
            assert shared == claim["metadata"]["name"]


def test_commands_are_those_of_fuselab() -> None:
    """Every `fuselab ...` in the page and the files names a command, a study and options."""
    text = "\n".join(path.read_text() for path in sorted(CLUSTER.iterdir()))
    commands = re.findall(r"(fuselab (?:run|status|tune) [^'\n]*)", text)
    assert len(commands) >= 5
    options = {
        option
        for command in app.registered_commands
        for option in re.findall(r"--[a-z-]+", " ".join(_declared(command.callback)))
    }
    for command in commands:
        _, word, study, *rest = command.split()
        assert word in {each.callback.__name__ for each in app.registered_commands}
        assert study in names(SHELF) or study == "my_study.py", command
        assert {part for part in rest if part.startswith("--")} <= options, command


def _declared(callback: Any) -> list[str]:
    """Names of a command's options, as typer makes them of its parameters."""
    import inspect

    return [
        f"--{name.rstrip('_').replace('_', '-')}" for name in inspect.signature(callback).parameters
    ]
