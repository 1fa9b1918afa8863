from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_voices import OURS, REFERENCE_LIKE, random_network

from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.engine import devices
from specdiff_cli.engine.devices import check_device_name, remark_on_precision, resolve_device, resolve_dtype
from specdiff_cli.engine.networks import dtype_for
from specdiff_cli.errors import DeviceError, UsageError
from specdiff_cli.model import precision
from specdiff_cli.model.network import build_network
from specdiff_cli.weights.load import Voice
from specdiff_cli.weights.voice_file import VocoderSpec

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_unknown_device_names_are_usage_errors(name: str) -> None:
    with pytest.raises(UsageError, match="not one of auto, cpu, cuda"):
        check_device_name(name)


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="device cuda: .*use device cpu"):
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
        resolve_dtype("int4", CPU, prefers_bfloat16=False)


@pytest.mark.parametrize("is_faster", [True, False])
@pytest.mark.parametrize("prefers", [True, False])
def test_auto_takes_bfloat16_only_where_it_is_wanted_and_fast(
    monkeypatch: pytest.MonkeyPatch, prefers: bool, is_faster: bool
) -> None:
    monkeypatch.setattr("specdiff_cli.model.precision.is_faster_in_bfloat16", lambda: is_faster)
    expected = torch.bfloat16 if prefers and is_faster else torch.float32
    assert resolve_dtype("auto", CPU, prefers_bfloat16=prefers) == expected
    assert resolve_dtype("bfloat16", CPU, prefers_bfloat16=False) == torch.bfloat16


@pytest.mark.parametrize("fastest", [torch.float32, torch.bfloat16, torch.int8])
def test_auto_takes_8_bits_only_where_they_are_allowed_and_fastest(
    monkeypatch: pytest.MonkeyPatch, fastest: torch.dtype
) -> None:
    monkeypatch.setattr("specdiff_cli.model.precision.fastest", lambda allowed: fastest)
    monkeypatch.setattr("specdiff_cli.model.precision.is_faster_in_bfloat16", lambda: fastest != torch.float32)
    assert resolve_dtype("auto", CPU, prefers_bfloat16=True, allows_int8=True) == fastest
    assert resolve_dtype("auto", CPU, prefers_bfloat16=False, allows_int8=True) == torch.float32
    assert resolve_dtype("auto", torch.device("mps"), prefers_bfloat16=True, allows_int8=True) == torch.float32
    without = torch.bfloat16 if fastest == torch.int8 else fastest
    assert resolve_dtype("auto", CPU, prefers_bfloat16=True, allows_int8=False) == without


def test_int8_is_for_cpus_that_are_fast_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specdiff_cli.model.precision.has_8_bit_products", lambda: True)
    assert resolve_dtype("int8", CPU, prefers_bfloat16=False) == torch.int8
    for name, alternative in (("cuda", "use bfloat16"), ("mps", "use float16")):
        with pytest.raises(DeviceError, match=alternative):
            resolve_dtype("int8", torch.device(name), prefers_bfloat16=True)
    monkeypatch.setattr("specdiff_cli.model.precision.has_8_bit_products", lambda: False)
    with pytest.raises(DeviceError, match="no fast 8-bit products; use float32"):
        resolve_dtype("int8", CPU, prefers_bfloat16=True)


@pytest.mark.parametrize(
    ("content", "limit"), [("150000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 10**6), (None, 10**6)]
)
def test_threads_keep_to_the_containers_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, limit: int
) -> None:
    if content is not None:
        (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    assert devices.usable_cpus(tmp_path) == min(8, limit)


def test_threads_are_as_asked_else_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", wanted.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(devices, "usable_cpus", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    devices.set_threads()
    devices.set_threads(3)
    monkeypatch.delenv("OMP_NUM_THREADS")
    devices.set_threads()
    assert wanted == [3, 4]


def test_emulated_bfloat16_is_obeyed_and_remarked_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr("specdiff_cli.engine.devices._computes_in_bfloat16", lambda _: False)
    assert resolve_dtype("bfloat16", cpu, prefers_bfloat16=True) == torch.bfloat16
    remark = remark_on_precision("bfloat16", cpu)
    assert remark is not None and "float32" in remark and "\n" not in remark
    assert remark_on_precision("auto", cpu) is remark_on_precision("float32", cpu) is None
    monkeypatch.setattr("specdiff_cli.engine.devices._computes_in_bfloat16", lambda _: True)
    assert remark_on_precision("bfloat16", cpu) is None


@pytest.mark.parametrize(
    ("prefers", "allows", "expected"),
    [(True, True, torch.int8), (True, False, torch.bfloat16), (False, False, torch.float32)],
)
def test_auto_measures_only_what_the_voice_allows(
    monkeypatch: pytest.MonkeyPatch, prefers: bool, allows: bool, expected: torch.dtype
) -> None:
    """The way from ``voice.toml``'s words to the precision, on a processor whose products take these times."""
    times_s = {torch.float32: 1.0, torch.bfloat16: 0.5, torch.int8: 0.3}
    monkeypatch.setattr(precision, "_products_s", lambda dtypes: {dtype: times_s[dtype] for dtype in dtypes})
    monkeypatch.setattr(precision, "largest_8_bit_weight", lambda: 127)
    denoiser, by_frames = (
        random_network(OURS),
        build_network(replace(REFERENCE_LIKE, n_context_layers=0, kind="autoregressive")),
    )
    measured = (precision.fastest, precision.is_faster_in_bfloat16)
    for function in measured:
        function.cache_clear()
    try:
        for network, taken in ((denoiser, expected), (by_frames, expected if not allows else torch.bfloat16)):
            voice = Voice(
                name="voice",
                folder=Path(),
                network=network,
                sampling=Sampling(1, "ddim", "magenta"),
                vocoder=VocoderSpec("griffin-lim"),
                prefers_bfloat16=prefers,
                allows_int8=allows,
            )
            assert dtype_for(voice, "auto", CPU) == taken
    finally:
        for function in measured:
            function.cache_clear()
