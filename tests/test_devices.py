import pytest
import torch

from specdiff_cli.devices import check_device_name, resolve_device, resolve_dtype
from specdiff_cli.errors import DeviceError, UsageError

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_unknown_device_names_are_usage_errors(name: str) -> None:
    with pytest.raises(UsageError, match="not one of auto, cpu, cuda"):
        check_device_name(name)


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--device cuda: .*use --device cpu"):
        resolve_device("cuda")
    assert resolve_device("cpu") == CPU


def test_a_cuda_index_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("cuda:0") == torch.device("cuda", 0)
    assert resolve_device("auto") == torch.device("cuda", 0)
    with pytest.raises(DeviceError, match=r"has 1 CUDA device"):
        resolve_device("cuda:1")


def test_float16_on_a_cpu_names_the_alternative() -> None:
    with pytest.raises(DeviceError, match="use bfloat16 or float32"):
        resolve_dtype("float16", CPU, prefers_bfloat16=False)
    with pytest.raises(UsageError, match="not one of auto, float32"):
        resolve_dtype("int8", CPU, prefers_bfloat16=False)


@pytest.mark.parametrize("has_instructions", [True, False])
@pytest.mark.parametrize("prefers", [True, False])
def test_auto_takes_bfloat16_only_where_it_is_wanted_and_native(
    monkeypatch: pytest.MonkeyPatch, prefers: bool, has_instructions: bool
) -> None:
    monkeypatch.setattr("specdiff_cli.devices._has_bfloat16_instructions", lambda: has_instructions)
    expected = torch.bfloat16 if prefers and has_instructions else torch.float32
    assert resolve_dtype("auto", CPU, prefers_bfloat16=prefers) == expected
    assert resolve_dtype("bfloat16", CPU, prefers_bfloat16=False) == torch.bfloat16
