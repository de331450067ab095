"""Energy is read where the machine tells it, also when its counter starts anew."""

from pathlib import Path

import pandas as pd

from harness.runs.energy import EnergyMeter
from reports import tables


def zone(powercap: Path, name: str, of: str, microjoules: int) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{of}\n")
    (folder / "max_energy_range_uj").write_text("9000000\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 8_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 0)
    meter = EnergyMeter("cpu", tmp_path)
    assert meter.joules() == 0
    second.write_text("1500000")
    core.write_text("900000")
    assert meter.joules() == 1.5
    first.write_text("500000")  # from 8 over 9 to 0.5
    assert meter.joules() == 3.0


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert EnergyMeter("cpu", tmp_path).joules() is None
    (tmp_path / "intel-rapl:0").mkdir()  # a zone without a counter
    assert EnergyMeter("cuda", tmp_path).joules() is None


def test_a_report_leaves_it_out_where_nobody_told_it() -> None:
    columns = {f"ledger.{name}": [1.0] for name in (*tables.LEDGER, "attempts", *tables.ONCE)}
    runs = pd.DataFrame({"cell": ["a"], "status": ["done"], **columns})
    assert tables.ledger(runs)["energy_joules"].tolist() == [1.0]
    without = tables.ledger(runs.drop(columns="ledger.energy_joules"))
    assert "energy_joules" not in without and "peak_mib" in without
