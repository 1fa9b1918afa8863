"""The decoder is stood in for by small ONNX networks whose reach follows from their kernels."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from specdiff_cli.audio.soundstream import SoundStream
from specdiff_cli.audio.vocoder import StreamingVocoder
from specdiff_cli.errors import UsageError, WeightsError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

HIDDEN = 4


def save_decoder(
    path: Path,
    *,
    kernel: int = 5,
    dilation: int = 1,
    upsample_kernel: int = 320,
    input_name: str = "input_features",
    frames: str | int = "frames",
    n_mels: int = 128,
    hop: int = 320,
    whole_song: bool = False,
) -> Path:
    """Conv (``kernel``, ``dilation``) → tanh → transposed conv with stride ``hop``.

    Reach: (kernel - 1) / 2 * dilation, plus one frame when the upsampling kernel is longer than a hop. With
    ``whole_song`` the mean over all frames is added, so there is no end to the reach.
    """
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) * 0.1).astype(np.float32), name)

    pad, trim = kernel // 2 * dilation, (upsample_kernel - hop) // 2
    nodes = [
        helper.make_node("Transpose", [input_name], ["channels"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["channels", "w1"], ["hidden"], pads=[pad, pad], dilations=[dilation]),
        helper.make_node("Tanh", ["hidden"], ["bent"]),
    ]
    bent = "bent"
    if whole_song:
        nodes.append(helper.make_node("ReduceMean", ["bent"], ["mean"], axes=[2], keepdims=1))
        nodes.append(helper.make_node("Add", ["bent", "mean"], ["summed"]))
        bent = "summed"
    nodes.append(helper.make_node("ConvTranspose", [bent, "w2"], ["audio"], strides=[hop], pads=[trim, trim]))
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [1, frames, n_mels])],
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, 1, None])],
        [weights("w1", HIDDEN, n_mels, kernel), weights("w2", HIDDEN, 1, upsample_kernel)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def random_mel(n_frames: int) -> torch.Tensor:
    return torch.rand(n_frames, 128, generator=torch.Generator().manual_seed(n_frames)) * 12 - 10


@pytest.mark.parametrize(
    ("kernel", "dilation", "upsample_kernel", "reach"),
    [(1, 1, 320, 0), (5, 1, 320, 2), (5, 1, 640, 3), (7, 3, 640, 10), (3, 45, 320, 45), (3, 100, 640, 101)],
)
def test_reach_is_measured(tmp_path: Path, kernel: int, dilation: int, upsample_kernel: int, reach: int) -> None:
    path = save_decoder(tmp_path / "m.onnx", kernel=kernel, dilation=dilation, upsample_kernel=upsample_kernel)
    vocoder = SoundStream(path, n_threads=1)
    assert vocoder.reach_frames == reach
    assert vocoder.streams_exactly
    assert vocoder.context_frames >= reach
    assert vocoder.context_frames % 8 == 0


@pytest.mark.parametrize("block", [8, 50, 128])
def test_streamed_equals_whole(tmp_path: Path, block: int) -> None:
    vocoder = SoundStream(save_decoder(tmp_path / "m.onnx", kernel=7, dilation=3, upsample_kernel=640), n_threads=1)
    mel = random_mel(300)
    whole = vocoder.invert(mel, 0)
    assert whole.shape == (300 * 320,)
    assert whole.dtype == torch.float32
    assert whole.abs().max() > 0.01
    streaming = StreamingVocoder(vocoder, block)
    streamed = torch.cat([*(streaming.push(piece) for piece in torch.split(mel, 37)), streaming.flush()])
    assert (streamed - whole).abs().max() < 1e-4


def test_reach_without_end_is_said(tmp_path: Path) -> None:
    vocoder = SoundStream(save_decoder(tmp_path / "m.onnx", whole_song=True), n_threads=1)
    assert not vocoder.streams_exactly
    assert vocoder.context_frames >= 200


def test_missing_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[onnx\]'"):
        SoundStream(save_decoder(tmp_path / "m.onnx"))


def test_missing_and_damaged_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError, match="missing"):
        SoundStream(tmp_path / "none.onnx")
    whole = save_decoder(tmp_path / "m.onnx").read_bytes()
    damaged = tmp_path / "bad.onnx"
    for content in (b"", b"not a model", whole[: len(whole) // 2], whole[10:]):
        damaged.write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            SoundStream(damaged)
        assert "bad.onnx" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "options",
    [{"input_name": "mel"}, {"n_mels": 80}, {"frames": 256}, {"hop": 256, "upsample_kernel": 256}],
)
def test_other_models_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    path = save_decoder(tmp_path / "m.onnx", **options)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"m\.onnx: is not a"):
        SoundStream(path)


def test_empty_and_absurd_input(tmp_path: Path) -> None:
    vocoder = SoundStream(save_decoder(tmp_path / "m.onnx"), n_threads=1)
    assert vocoder.invert(torch.empty(0, 128), 0).shape == (0,)
    mel = random_mel(10)
    mel[3:5] = float("nan")
    mel[6] = float("inf")
    assert torch.isfinite(vocoder.invert(mel, 0)).all()
    with pytest.raises(ValueError, match="128"):
        vocoder.invert(torch.zeros(10, 100), 0)
