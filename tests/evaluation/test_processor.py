"""The line about the processor under every table."""

from pathlib import Path

import pytest

from specdiff_cli.evaluation import processor
from specdiff_cli.evaluation.processor import describe_processor


def test_model_cores_and_instructions_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: Some CPU\nflags\t\t: fpu avx2 avx_vnni\n\nmodel name\t: other\n")
    known = processor._cpu_info(tmp_path / "cpuinfo")
    assert known == {"model name": "Some CPU", "flags": "fpu avx2 avx_vnni"}
    monkeypatch.setattr(processor, "_cpu_info", lambda: known)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    line = describe_processor()
    assert line.startswith("Some CPU · ") and "avx2 avx_vnni" in line and "fpu" not in line
    assert "ATEN_CPU_CAPABILITY=avx2" in line


def test_an_unknown_processor_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processor._cpu_info(tmp_path / "none") == {}
    monkeypatch.setattr(processor, "_cpu_info", dict)
    assert "instructions unknown" in describe_processor()
