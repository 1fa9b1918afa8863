"""Which input goes to which output."""

from pathlib import Path

import pytest

from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.errors import UsageError
from specdiff_cli.rendering.inputs import Source
from specdiff_cli.rendering.jobs import FIELDS, check_template, format_of, plan
from specdiff_cli.rendering.record import Settled, settle
from specdiff_cli.rendering.request import Request
from specdiff_cli.weights.voice_file import VocoderSpec
from specdiff_cli.weights.voices import VoiceCard


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def naming(output: str | None = None, template: str | None = None, model: str = "tiny", **more: object) -> Settled:
    voice = VoiceCard(
        model=model,
        name=model,
        folder=Path(),
        sampling=Sampling(2, "ddim", "magenta"),
        vocoder=VocoderSpec("griffin-lim"),
    )
    return settle(Request.of({"output": output, "output_template": template, "seed": 7, **more}), voice)


def targets(sources: list[Source], settled: Settled) -> list[str]:
    return [str(job.target) for job in plan(sources, settled)]


ONE = [Source(Path("x/song.mid"), is_named=True)]
TREE = [Source(Path("in/a.mid")), Source(Path("in/sub/a.mid"), Path("sub"))]


def test_a_single_file(folder: Path) -> None:
    (folder / "there").mkdir()
    assert targets(ONE, naming()) == ["song.wav"]
    assert targets(ONE, naming("b.wav")) == ["b.wav"]
    assert targets(ONE, naming("there")) == ["there/song.wav"]
    assert targets(ONE, naming("new/")) == ["new/song.wav"]
    assert [job.target for job in plan(ONE, naming("-"))] == [None]


def test_trees_are_mirrored_below_the_output_folder() -> None:
    assert targets(TREE, naming("out")) == ["out/a.wav", "out/sub/a.wav"]


def test_templates() -> None:
    template = "{parent}-{stem}-{name}-{model}-{seed}-{steps}-{index:03}.wav"
    check_template(template)
    assert targets(TREE, naming("out", template, model="my/voice")) == [
        "out/in-a-a.mid-my_voice-7-2-001.wav",
        "out/sub/sub-a-a.mid-my_voice-7-2-002.wav",
    ]
    assert targets(ONE, naming(None, "{model}/{stem}{{x}}.wav")) == ["tiny/song{x}.wav"]
    assert targets(ONE, naming("out", "{stem}.wav")) == ["out/song.wav"]  # with a template, -o is a folder


def test_every_documented_field_exists() -> None:
    check_template("".join(f"{{{field}}}" for field in FIELDS))
    assert targets(ONE, naming(None, "".join(f"{{{field}}}." for field in FIELDS) + "wav"))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{artist}.wav", r"\{artist\} is not one of \{stem\}, \{name\}"),
        ("{stem.__class__}.wav", "is not one of"),
        ("{}.wav", "is not one of"),
        ("{stem", "cannot be read"),
        ("{stem!r}.wav", "only numbers take a width"),
        ("{stem:>20}.wav", "only numbers take a width"),
        ("{index:99999999999}.wav", "only numbers take a width"),
        ("{index:{seed}}.wav", "only numbers take a width"),
        ("", "not the name of a file"),
        ("{stem}/", "not the name of a file"),
        ("x/..", "not the name of a file"),
        ("/tmp/{stem}.wav", "must be relative"),
    ],
)
def test_templates_that_cannot_work(template: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_template(template)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("x/a.mid", "y/a.mid"), "out/a.wav;"),
        (("x/a.mid", "x/A.mid"), "out/a.wav and out/A.wav, one name where case does not count"),
        (("x/a.mid", "x/a.kar"), "out/a.wav;"),
        (("x/\u00e9.mid", "y/e\u0301.mid"), "how accents are written"),  # the same letter, composed and not
    ],
)
def test_two_inputs_of_one_output_are_refused(names: tuple[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=f"would both be written to .*{why}"):
        plan([Source(Path(name)) for name in names], naming("out"))


def test_impossible_plans(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(UsageError, match="is a file; several inputs need a folder"):
        plan(TREE, naming("file"))
    with pytest.raises(UsageError, match="single input"):
        plan(TREE, naming("-"))
    with pytest.raises(UsageError, match="single input"):
        plan(TREE, naming(save_mel="a.npy"))
    with pytest.raises(UsageError, match="does not go with output -"):
        plan(ONE, naming("-", "{stem}.wav"))
    with pytest.raises(UsageError, match="is an input, too"):
        plan(TREE, naming("in", "{stem}.mid", format="wav"))


def test_the_suffix_chooses_the_format() -> None:
    assert [format_of("a.FLAC", None), format_of("a.wav", None), format_of(None, None)] == ["flac", "wav", "wav"]
    assert format_of("out.flac", "{stem}.wav") == "wav"


def test_suffixes_that_cannot_be_written_are_refused() -> None:
    for suffix in (".aac", ".mp4", ".webm", ".kar", ".png"):
        with pytest.raises(UsageError, match=rf"x\{suffix}: \{suffix} cannot be written"):
            format_of(f"x{suffix}", None)
    assert [format_of(name, None) for name in ("x.flac", "x.FLAC")] == ["flac", "flac"]
    assert [format_of(name, None) for name in ("x.wav", "x", "x.out", None)] == ["wav"] * 4
