"""Fréchet distances of the features of an ONNX file that a user gives."""

from pathlib import Path

import numpy as np
import pytest
from command_line import specdiff

from specdiff_cli.errors import UsageError
from specdiff_cli.evaluation.embedding import OnnxEmbedding
from specdiff_cli.evaluation.frechet import Moments, frechet_distance

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

FRAME = 400


def write_energies(path: Path, shape: list[int | str]) -> Path:
    """A network that squares its samples and averages them in frames of 400: one feature beside its own square."""
    nodes = [
        helper.make_node("Mul", ["audio", "audio"], ["power"]),
        helper.make_node("Reshape", ["power", "frames"], ["framed"]),
        helper.make_node("ReduceMean", ["framed"], ["energy"], axes=[2], keepdims=1),
        helper.make_node("Mul", ["energy", "energy"], ["squared"]),
        helper.make_node("Concat", ["energy", "squared"], ["features"], axis=2),
    ]
    frames = helper.make_tensor("frames", TensorProto.INT64, [3], [1, -1, FRAME])
    graph = helper.make_graph(
        nodes,
        "energies",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, None, 2])],
        [frames],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("shape", "n_rows"), [(["n"], 10), ([1, "n"], 10), ([1, 3 * FRAME], 9), (["batch", 2 * FRAME], 10)]
)
def test_features_are_those_of_the_file(tmp_path: Path, shape: list[int | str], n_rows: int) -> None:
    embedding = OnnxEmbedding(write_energies(tmp_path / "a.onnx", shape))
    assert embedding.n_features == 2
    audio = np.random.default_rng(0).standard_normal(10 * FRAME).astype(np.float32)
    energies = (audio.reshape(-1, FRAME) ** 2).mean(1)[:n_rows]
    np.testing.assert_allclose(embedding.features(audio), np.stack([energies, energies**2], 1), rtol=1e-5)


def test_the_distance_is_that_of_two_normal_distributions(tmp_path: Path) -> None:
    embedding = OnnxEmbedding(write_energies(tmp_path / "a.onnx", ["n"]))
    rng = np.random.default_rng(0)
    moments = []
    for level in (1.0, 1.0, 2.0):
        found = Moments(embedding.n_features)
        found.add(embedding.features((level * rng.standard_normal(400 * FRAME)).astype(np.float32)))
        moments.append(found)
    near, far = frechet_distance(moments[0], moments[1]), frechet_distance(moments[0], moments[2])
    assert near is not None and far is not None
    assert near < 0.01
    assert far == pytest.approx((4 - 1) ** 2 + (16 - 1) ** 2, rel=0.1)  # means of the energy and of its square


def test_what_is_no_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        OnnxEmbedding(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(UsageError, match="is not an ONNX file"):
        OnnxEmbedding(tmp_path / "text.onnx")
    with pytest.raises(UsageError, match="one input of float samples"):
        OnnxEmbedding(write_energies(tmp_path / "a.onnx", [1, 1, "n"]))


def test_the_command_takes_recordings_and_an_embedding(tmp_path: Path, voice: str) -> None:
    import soundfile
    from midi_files import midi_bytes, note

    (tmp_path / "song.mid").write_bytes(midi_bytes(note(0, 960, 0, 60)))
    (tmp_path / "recordings").mkdir()
    tone = 0.1 * np.sin(np.arange(8 * FRAME * 10) / 10)
    soundfile.write(tmp_path / "recordings" / "song.flac", tone, 16_000)
    embedding = write_energies(tmp_path / "a.onnx", [1, FRAME])
    base = ["evaluate", voice, "--midi", str(tmp_path / "song.mid"), "--no-transcriber", "--device", "cpu", "-q"]
    recordings = ["--reference-audio", str(tmp_path / "recordings")]
    done = specdiff(*base, *recordings, "--embedding", embedding, "--json")
    assert done.exit_code == 0, done.stderr
    assert '"frechet_distance": ' in done.stdout
    assert '"frechet_distance": null' in done.stdout  # of the reference from itself
    twice = specdiff(*base, *recordings, "--embedding", embedding, "--frechet")
    assert (twice.exit_code, "give one of them" in twice.stderr) == (2, True)
    missing = specdiff(*base, "--reference-audio", tmp_path)
    assert (missing.exit_code, "has no recording of song.mid" in missing.stderr) == (2, True)
