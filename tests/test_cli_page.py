"""docs/cli.md: its tables of options are those of the commands."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "write_options.py"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_options", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_what_the_commands_take(writer: ModuleType) -> None:
    page = writer.PAGE.read_text(encoding="utf-8")
    assert writer.with_tables(page) == page, "run python docs/write_options.py"


def test_every_option_of_render_is_on_the_page(writer: ModuleType) -> None:
    page = writer.PAGE.read_text(encoding="utf-8")
    for parameter in writer.command_named("render").params:
        for name in parameter.opts if parameter.param_type_name == "option" else ():
            assert f"`{name}" in page
