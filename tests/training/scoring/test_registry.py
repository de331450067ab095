"""Tasks are found by name, and the nearest name is said."""

import pytest

from architectures.frozen import SettingError
from harness.training.scoring import registry
from harness.training.tasks import retrieval


def test_a_task_is_the_module_of_its_name() -> None:
    assert "retrieval" in registry.names() and "__init__" not in registry.names()
    assert registry.names() == sorted(registry.names())
    assert registry.find("retrieval") is retrieval


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(SettingError, match="unknown task 'retrievel'; did you mean 'retrieval'"):
        registry.find("retrievel")
