"""weights.lock: what the shipped file says, what a bad one is told, where it is found, and bundled voices."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from specdiff_cli.errors import ExitCode, UsageError, WeightsError
from specdiff_cli.weights import lock as lock_module
from specdiff_cli.weights.lock import endpoint, file_sha256, load_lock, parse_lock, verify_bundled

SHA = "0" * 64
REVISION = "b4e09e84a6563c9b38de3b82bd63fe3b1467f2ef"
PUBLISHED = {
    "decoder/diffusion_pytorch_model.bin": "eda770548b0ac2432973dee6a99068fdf2120454e7599ea3b62acebde6aa1d5b",
    "notes_encoder/diffusion_pytorch_model.bin": "be7f951c6ed13ef10ae9298c10c315d9d27a29a4da42fad9f24355967fd37e4c",
    "continuous_encoder/diffusion_pytorch_model.bin": (
        "9ce0037cc2f9aad486141769202fed6a112db29487a358651424d1354ba52038"
    ),
    "melgan/model.onnx": "0f7bfb7c042cfed63b133aa26ec440f7b2d08192823fbc2363499696b3720603",
}


def lock_text(file_line: str = "", model_line: str = "", top_line: str = "", path: str = "a.bin") -> str:
    return f"""
lock_version = 1
{top_line}
[models.m]
description = "d"
license = "l"
revision = "r1"
{model_line}
[[models.m.files]]
path = "{path}"
url = "{{endpoint}}/{{revision}}/a.bin"
{file_line}
"""


def test_shipped_lock_pins_the_published_files() -> None:
    base = load_lock().model("base")
    assert base.revision == REVISION
    assert {file.path: file.sha256 for file in base.files} == PUBLISHED
    onnx = next(file for file in base.files if file.path == "melgan/model.onnx")
    assert onnx.size_bytes == 60_487_709
    assert "7e1c7434940de4369d83fb1234634a25ce6100d2" in onnx.note
    prefix = f"https://huggingface.co/google/music-spectrogram-diffusion/resolve/{REVISION}/"
    for file in base.files:
        assert file.resolved_url(endpoint()) == prefix + file.path
        assert file.revision == REVISION


ZIPS = "https://storage.googleapis.com/music-synthesis-with-spectrogram-diffusion/checkpoints"


def test_shipped_lock_knows_where_the_original_checkpoints_are() -> None:
    known = load_lock()
    for name, place in (("small", known.model("small", "gcs")), ("base", known.model("base", "gcs"))):
        assert (place.name, place.source, place.layout, place.license) == (name, "gcs", "t5x", "Apache-2.0")
        assert place.checkpoint is not None
        assert place.checkpoint.resolved_url(endpoint()) == f"{ZIPS}/{name}_with_context.zip"
        assert (place.checkpoint.sha256, place.checkpoint.size_bytes) == (None, None)  # nobody has published them
        pinned = [file for file in place.files if file.sha256]
        assert [(file.path, file.sha256) for file in pinned] == [("melgan/model.onnx", PUBLISHED["melgan/model.onnx"])]
        prefix = f"https://huggingface.co/google/music-spectrogram-diffusion/resolve/{REVISION}/"
        assert pinned[0].resolved_url(endpoint()) == prefix + "melgan/model.onnx"
    assert known.model("base").architecture == "base"
    assert known.model("small") is known.model("small", "gcs")
    assert [place.source for place in known.model("base").places] == ["huggingface", "gcs"]


def test_every_bundled_voice_of_the_shipped_lock_is_intact() -> None:
    for voice in load_lock().bundled.values():
        if voice.files:
            assert verify_bundled(voice.name).is_dir()


def test_minimal_lock_is_accepted() -> None:
    file = parse_lock(lock_text()).model("m").files[0]
    assert (file.path, file.sha256, file.size_bytes) == ("a.bin", None, None)
    assert file.resolved_url("https://host") == "https://host/r1/a.bin"


PLACES = """
lock_version = 1
[models.m]
description = "d"
license = "l"
architecture = "small"
revision = "r1"
[[models.m.files]]
path = "a.bin"
url = "{endpoint}/a.bin"
[models.m.sources.gcs]
layout = "t5x"
revision = "r2"
[[models.m.sources.gcs.files]]
path = "a.zip"
url = "https://host/{revision}/a.zip"
"""


def test_a_model_at_two_places() -> None:
    model = parse_lock(PLACES).model("m")
    first, other = model.places
    assert (first.source, first.layout, first.revision, first.checkpoint) == ("huggingface", "diffusers", "r1", None)
    assert (other.source, other.layout, other.revision, other.architecture) == ("gcs", "t5x", "r2", "small")
    assert (other.description, other.license) == ("d", "l")
    assert other.checkpoint is other.files[0]
    assert other.files[0].resolved_url("https://x") == "https://host/r2/a.zip"
    assert (first.is_first_choice, other.is_first_choice) == (True, False)
    assert parse_lock(PLACES).model("m", "gcs") == other
    with pytest.raises(WeightsError, match='m: is not to be had from "ftp", only from huggingface or gcs'):
        parse_lock(PLACES).model("m", "ftp")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'layout = "t5x"',
            'layout = "tar"',
            r"models\.m\.sources\.gcs: layout is 'tar': expected one of diffusers, t5x",
        ),
        ('layout = "t5x"', 'colour = "x"', r'models\.m\.sources\.gcs: unknown key "colour"'),
        ('layout = "t5x"', 'license = "x"', r'models\.m\.sources\.gcs: unknown key "license"'),
        ('architecture = "small"', 'architecture = "tiny"', r"models\.m: architecture is 'tiny'"),
        ('architecture = "small"', 'source = "gcs"', r'models\.m: "gcs" is its source and one of its other sources'),
        ('revision = "r2"', 'revision = "R1"', "two of its sources have the same revision"),
        ('path = "a.zip"', 'path = "a.bin"', r"layout t5x needs one file that ends in \.zip"),
        ("sources.gcs]", 'sources."../gcs"]', "no plain name"),
        ('path = "a.zip"', 'path = "../a.zip"', r"sources\.gcs\.files\[0\]: path"),
        ('url = "https://host/{revision}/a.zip"', 'url = "gs://host/a.zip"', "must start with"),
    ],
)
def test_bad_places_are_refused_in_one_line_that_says_where(old: str, new: str, words: str) -> None:
    text = PLACES.replace(old, new)
    if "../gcs" in new:
        text = text.replace("sources.gcs.files", 'sources."../gcs".files')
    assert text != PLACES
    with pytest.raises(WeightsError, match=words) as caught:
        parse_lock(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["../a", "/etc/a", "a/../b", "a//b", "a/", "C:/a", "a\\\\b", ".records/a", "a/.b", "a.part", "x.lock", "a b", ""],
)
def test_path_that_could_leave_the_folder_is_refused(path: str) -> None:
    with pytest.raises(WeightsError, match="path"):
        parse_lock(lock_text(path=path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lock_text(file_line='shasum = "x"'), r'models\.m\.files\[0\]: unknown key "shasum"'),
        (lock_text(model_line='colour = "x"'), r'models\.m: unknown key "colour"'),
        (lock_text(top_line="extra = 1"), 'unknown key "extra"'),
        (lock_text(file_line='sha256 = "abc"'), "sha256 is 'abc': expected 64"),
        (lock_text(file_line=f'sha256 = "{"A" * 64}"'), "sha256"),
        (lock_text(file_line=f'sha256 = "{SHA}\\n"'), "sha256"),
        (lock_text(file_line="size_bytes = 0"), "size_bytes is 0"),
        (lock_text(file_line="size_bytes = true"), "size_bytes is True"),
        (lock_text(file_line='size_bytes = "1"'), "size_bytes is '1'"),
        (lock_text(file_line='note = ""'), "note"),
        (lock_text().replace("lock_version = 1", "lock_version = 2"), "lock_version is 2"),
        (lock_text().replace("lock_version = 1", ""), "lock_version is None"),
        (lock_text().replace('revision = "r1"', ""), '"revision" is missing'),
        (lock_text().replace('revision = "r1"', 'revision = "../r"'), "revision"),
        (lock_text().replace("{endpoint}/", "http://host/"), "must start with"),
        (lock_text().replace("{endpoint}/", "file:///"), "must start with"),
        (lock_text().replace("{revision}", "{commit}"), "unknown placeholder {commit}"),
        (lock_text().replace("/a.bin", "/{endpoint}"), "unknown placeholder {endpoint}"),
        (lock_text() + '[[models.m.files]]\npath = "A.bin"\nurl = "https://h/a"\n', "appears twice"),
        (
            lock_text().replace("[models.m]", '[models."../m"]').replace("[[models.m.", '[[models."../m".'),
            "no plain name",
        ),
        ('lock_version = 1\n[models.m]\ndescription="d"\nlicense="l"\nrevision="r"\nfiles=[]', "lists no files"),
        ('lock_version = 1\n[models.m]\ndescription="d"\nlicense="l"\nrevision="r"\nfiles="a"', "list of tables"),
        ('lock_version = 1\n[models.m]\ndescription="d"\nlicense="l"\nrevision="r"\nfiles=["a"]', "must be a table"),
        ("lock_version = 1\nmodels = 3", "models must be a table"),
        (lock_text() + '[bundled.m]\ndescription="d"\nlicense="l"\nfiles=[]\n', "both a model and a bundled voice"),
        (lock_text() + '[bundled.v]\ndescription="d"\nlicense="l"\nfiles=[{path="a"}]\n', '"sha256" is missing'),
        ("lock_version = ", "not valid TOML"),
    ],
)
def test_bad_lock_is_refused_in_one_line_that_says_where(text: str, words: str) -> None:
    with pytest.raises(WeightsError, match=words) as caught:
        parse_lock(text)
    assert "\n" not in str(caught.value)
    assert "weights.lock" in str(caught.value)


def test_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(WeightsError, match='unknown model "x".*: m') as caught:
        parse_lock(lock_text()).model("x")
    assert caught.value.exit_code is ExitCode.WEIGHTS


def test_lock_is_found_in_a_wheel_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "specdiff_cli" / "weights" / "lock.py"
    module.parent.mkdir(parents=True)
    monkeypatch.setattr(lock_module, "__file__", str(module))
    with pytest.raises(WeightsError, match="missing from this installation"):
        load_lock()
    (tmp_path / "weights.lock").write_text(lock_text(path="checkout.bin"))
    assert load_lock().model("m").files[0].path == "checkout.bin"
    module.with_name("weights.lock").write_text(lock_text(path="wheel.bin"))
    assert load_lock().model("m").files[0].path == "wheel.bin"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "https://huggingface.co"),
        ("https://mirror.example/hf/", "https://mirror.example/hf"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_endpoint_variable(value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", value)
    assert endpoint() == expected


@pytest.mark.parametrize(
    "value", ["mirror.example", "ftp://h", "https://", "https://h/a b", "https://h:x", "https://[::1"]
)
def test_endpoint_that_is_no_address_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", value)
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        endpoint()


def test_file_sha256_counts_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192  # two read blocks
    (tmp_path / "f").write_bytes(content)
    seen: list[int] = []
    assert file_sha256(tmp_path / "f", seen.append) == hashlib.sha256(content).hexdigest()
    assert seen[-1] == len(content)


def test_verify_bundled_tells_the_failures_apart(tmp_path: Path) -> None:
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    entry = f'{{path="sub/w", sha256="{digest}", size_bytes={len(content)}}}'
    text = f'lock_version = 1\n[bundled.v]\ndescription="d"\nlicense="l"\nfiles=[{entry}]\n'
    lock = parse_lock(text)
    path = tmp_path / "v" / "sub" / "w"

    def verify() -> Path:
        return verify_bundled("v", lock=lock, voices_folder=tmp_path)

    with pytest.raises(WeightsError, match="missing: reinstall"):
        verify()
    path.parent.mkdir(parents=True)
    path.write_bytes(content[:3])
    with pytest.raises(WeightsError, match="incomplete: got 3 of 7 bytes"):
        verify()
    path.write_bytes(b"wEights")
    with pytest.raises(WeightsError, match=f"wrong content: sha256 is .* expected {digest}"):
        verify()
    path.write_bytes(content)
    assert verify() == tmp_path / "v"
    with pytest.raises(WeightsError, match='unknown voice "w".*: v'):
        verify_bundled("w", lock=lock, voices_folder=tmp_path)


def test_bundled_voice_without_files_is_not_called_verified() -> None:
    lock = parse_lock('lock_version = 1\n[bundled.v]\ndescription="d"\nlicense="l"\nfiles=[]\n')
    with pytest.raises(WeightsError, match="lists no files"):
        verify_bundled("v", lock=lock)


def test_weights_modules_import_nothing_heavy() -> None:
    modules = "specdiff_cli.weights.download, specdiff_cli.weights.cache, specdiff_cli.cli.weights"
    heavy = "{'torch', 'numpy', 'onnxruntime', 'soundfile', 'safetensors'}"
    code = f"import sys, {modules}; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
