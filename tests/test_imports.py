"""Imports point downwards, and commands that need no network load no torch. See docs/architecture.md."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from midi_files import midi_bytes, note

import specdiff_cli

PACKAGE = Path(specdiff_cli.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: Room -> its floor. A room may import rooms of lower floors only; rooms on one floor never import each other.
#: Inside ``engine`` every file is a room of its own.
FLOORS = {
    "constants": 0,
    "errors": 0,
    "wording": 0,
    "help_pages": 0,
    "checks": 0,
    "engine.ahead": 0,
    "engine.starting": 0,
    "engine.waiting": 0,
    "choices": 1,
    "files": 1,
    "streams": 1,
    "signals": 2,
    "lengths": 1,
    "threads": 1,
    "midi": 2,
    "diffusion": 2,
    "audio": 2,
    "model": 3,
    "engine.bends": 3,
    "engine.unisons": 3,
    "weights": 4,
    "engine.songs": 4,
    "engine.autoregression": 5,
    "engine.denoising": 5,
    "engine.templates": 5,
    "engine.timbres": 4,
    "engine.devices": 5,
    "engine.vocoders": 5,
    "engine.pieces": 5,
    "engine.networks": 6,
    "engine.synthesizer": 7,
    "engine.loading": 8,
    "rendering": 9,
    "composing": 10,
    "corpus": 11,
    "train": 12,
    "evaluation": 13,
    "serving": 14,
    "cluster": 15,
    "cli": 16,
}
#: Rooms that need an optional extra; who is above them imports them inside functions only.
EXTRAS = ("corpus", "train", "evaluation", "serving", "cluster")
#: The package itself names things of every room, but only when they are asked for; its script is the way into cli.
DOORS = {"__init__", "__main__"}

HEAVY = {"torch", "onnxruntime", "soundfile", "safetensors", "scipy", "matplotlib"}
#: What starting the program must not load either: it would show in every `--help`.
SLOW = HEAVY | {"numpy", "mido"}
RUNS_A_COMMAND = """
import json, sys
sys.argv = ["specdiff", *sys.argv[1:]]
from specdiff_cli.__main__ import main
code = 0
try:
    main()
except SystemExit as error:
    code = error.code
sys.stdout = sys.__stderr__
print("LOADED", json.dumps([code or 0, sorted(sys.modules)]), file=sys.stderr)
"""


def module_name(path: Path) -> str:
    """``midi/notes.py`` -> ``midi.notes``; a package's ``__init__.py`` -> the package."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def room_of(module: str) -> str:
    first, _, rest = module.partition(".")
    return f"{first}.{rest}" if first == "engine" and rest else first


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST, *, at_start_only: bool) -> Iterator[str]:
    """Modules that a file imports; ``at_start_only`` leaves out functions and what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            assert node.module is not None
            yield node.module
            if node.module.startswith("specdiff_cli"):  # `from specdiff_cli.weights import cache` names a module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not at_start_only:
            yield from imports(node, at_start_only=False)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not is_type_checking(node):
            yield from imports(node, at_start_only=True)


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def own_imports(module: str, *, at_start_only: bool) -> set[str]:
    """Modules of this package that ``module`` imports."""
    found = set()
    for name in imports(TREES[module], at_start_only=at_start_only):
        own = name.removeprefix("specdiff_cli.")
        if name.startswith("specdiff_cli.") and own in TREES:
            found.add(own)
    return found


def foreign_imports(module: str, *, at_start_only: bool) -> set[str]:
    return {name.partition(".")[0] for name in imports(TREES[module], at_start_only=at_start_only)} - {"specdiff_cli"}


def loaded_with(module: str) -> set[str]:
    """Foreign packages that importing ``module`` loads, directly or through modules of ours."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += own_imports(current, at_start_only=True)
    return set().union(*(foreign_imports(name, at_start_only=True) for name in seen))


def test_the_scan_sees_what_it_should() -> None:
    tree = ast.parse(
        "import a\nfrom b.c import d\nif TYPE_CHECKING:\n    import e\n"
        "try:\n    import f\nexcept ImportError:\n    pass\n"
        "def g():\n    import h\nclass I:\n    import j\n    def k(self):\n        import l\n"
    )
    assert set(imports(tree, at_start_only=True)) == {"a", "b.c", "f", "j"}
    assert set(imports(tree, at_start_only=False)) == {"a", "b.c", "e", "f", "h", "j", "l"}
    assert "midi.tempo" in own_imports("midi.notes", at_start_only=True)
    assert "torch" in loaded_with("engine.synthesizer")


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module in TREES} - DOORS - {"voices", "engine", "_version"} <= set(FLOORS)


@pytest.mark.parametrize("module", [module for module in TREES if room_of(module) not in DOORS])
def test_imports_point_downwards(module: str) -> None:
    room = room_of(module)
    for imported in own_imports(module, at_start_only=False):
        other = room_of(imported)
        assert other == room or FLOORS[other] < FLOORS[room], f"{module} imports {imported}"
    if room not in EXTRAS:
        at_start = own_imports(module, at_start_only=True)
        assert not [name for name in at_start if room_of(name) in EXTRAS], f"{module} needs an optional extra"


@pytest.mark.parametrize("module", [module for module in TREES if room_of(module) in ("midi", "cli", *DOORS)])
def test_light_rooms_load_nothing_heavy(module: str) -> None:
    assert not loaded_with(module) & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        "audio.wav",
        "engine.devices",
        "engine.waiting",
        "errors",
        "files",
        "constants",
        *(f"weights.{name}" for name in ("lock", "download")),
    ],
)
def test_some_modules_of_heavy_rooms_are_light_too(module: str) -> None:
    assert not loaded_with(module) & {"torch", "onnxruntime"}


def test_rich_stays_in_the_command_line() -> None:
    assert not [
        module
        for module in TREES
        if room_of(module) != "cli" and foreign_imports(module, at_start_only=False) & {"rich", "typer"}
    ]


def test_the_command_line_stays_thin() -> None:
    files = list((PACKAGE / "cli").glob("*.py"))
    assert len(files) <= 18
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 3500


def test_the_architecture_names_every_file() -> None:
    page = Path(__file__).parent.parent / "docs" / "architecture.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    for path in FILES:
        room = path.relative_to(PACKAGE).parts[0]
        if path.stem not in ("__init__", "__main__", "_version"):
            row = next(row for row in rows if row.startswith("| top " if path.parent == PACKAGE else f"| `{room}/`"))
            assert f"`{path.stem}`" in row, f"docs/architecture.md says nothing of {path.relative_to(PACKAGE)}"


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("imports") / "song.mid"
    path.write_bytes(midi_bytes(note(0, 480, 0, 60)))
    return path


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], SLOW),
        (["--version"], SLOW),
        (["render", "--help"], SLOW),
        (["inspect-midi", "--help"], SLOW),
        (["download-weights", "--list"], SLOW),
        (["models"], SLOW),
        (["inspect-midi", "SONG"], HEAVY),
        (["inspect-midi", "--json", "--tokens", "SONG"], HEAVY),
        (["inspect-midi", "missing.mid"], HEAVY),
        (["render", "missing.mid"], HEAVY),  # a wrong name is reported at once
    ],
    ids=" ".join,
)
def test_commands_that_need_no_network_load_no_torch(song: Path, arguments: list[str], forbidden: set[str]) -> None:
    words = [str(song) if word == "SONG" else word for word in arguments]
    result = subprocess.run([sys.executable, "-c", RUNS_A_COMMAND, *words], capture_output=True, text=True, check=False)
    *_, last_line = result.stderr.splitlines()
    mark, _, told = last_line.partition(" ")
    assert mark == "LOADED", result.stderr
    code, modules = json.loads(told)
    assert code == (3 if "missing.mid" in words else 0), result.stderr
    assert not forbidden & set(modules)


def test_rendering_loads_no_compiler(song: Path) -> None:
    """Importing it costs more than a second of every start, and leaves a folder behind."""
    words = ["render", str(song), "-o", str(song.with_suffix(".wav")), "--quiet", "--overwrite"]
    result = subprocess.run([sys.executable, "-c", RUNS_A_COMMAND, *words], capture_output=True, text=True, check=False)
    code, modules = json.loads(result.stderr.splitlines()[-1].removeprefix("LOADED "))
    assert code == 0, result.stderr
    assert "torch" in modules
    assert not {"torch._dynamo", "torch._inductor", "sympy"} & set(modules)


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import specdiff_cli, sys, json; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not SLOW & set(json.loads(result.stdout))
    assert specdiff_cli.read_midi.__module__ == "specdiff_cli.midi.notes"
    with pytest.raises(AttributeError):
        _ = specdiff_cli.no_such_name
