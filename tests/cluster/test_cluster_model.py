"""The model of a cluster: right where the answer is known."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "cluster_model.py"


@pytest.fixture(scope="module")
def model() -> Any:
    spec = importlib.util.spec_from_file_location("cluster_model", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cluster_model"] = module
    spec.loader.exec_module(module)
    return module


def test_one_worker_takes_the_sum_of_all_times(model: Any) -> None:
    setting = model.Setting(1, 200, deaths_per_worker_h=0.0)
    times = list(model.file_times(setting, model.random.Random(0)))
    found = model.simulate(setting)
    overhead_s = setting.load_s + 200 * (setting.driver_task_s + setting.driver_file_s)
    assert found.wall_s == pytest.approx(sum(times) + overhead_s)
    assert found.efficiency == pytest.approx(sum(times) / found.wall_s)


def test_no_number_of_workers_exceeds_the_file_system_or_the_driver(model: Any) -> None:
    slow_disk = model.Setting(500, 5000, audio_bytes_per_s=32e3, storage_bytes_per_s=3e7, deaths_per_worker_h=0.0)
    assert (
        5000 / model.simulate(slow_disk).wall_s <= model.most_files_per_s(slow_disk)[0] == pytest.approx(3e7 / 5.76e6)
    )
    assert model.simulate(slow_disk).binds == "storage"
    slow_driver = model.Setting(
        500, 5000, file_s=1.0, driver_file_s=0.02, audio_bytes_per_s=32e3, deaths_per_worker_h=0.0
    )
    assert model.simulate(slow_driver).binds == "driver"


def test_losses_cost_what_they_must(model: Any) -> None:
    setting = model.Setting(4, 400, deaths_per_worker_h=0.0)
    poisoned = model.simulate(model.replace(setting, poison_share=0.05))
    assert poisoned.n_deaths == 3 * poisoned.n_given_up > 0
    assert poisoned.wall_s > model.simulate(setting).wall_s
    assert model.simulate(model.replace(setting, deaths_per_worker_h=1.0)).n_deaths > 0
