import os
import socket
from pathlib import Path

import pytest

from specdiff_cli.errors import UsageError
from specdiff_cli.serving.limits import Limits
from specdiff_cli.serving.server import AUTH_VARIABLE, Address, read_auth, temporary_folder


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("name", False)],
)
def test_loopback_is_known(host: str, is_loopback: bool) -> None:
    assert Address(host).is_loopback is is_loopback


def test_a_page_that_others_can_reach_needs_a_password() -> None:
    with pytest.raises(UsageError, match=AUTH_VARIABLE):
        read_auth(Address("0.0.0.0"), None)
    assert read_auth(Address("0.0.0.0"), "anna:s:cret") == ("anna", "s:cret")
    assert read_auth(Address(), None) is None
    for text in ("anna", "anna:", ":secret"):
        with pytest.raises(UsageError, match="USER:PASS"):
            read_auth(Address(), text)


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="is taken"):
            Address(port=taken.getsockname()[1]).check_free()


def test_a_host_of_elsewhere_is_one_line() -> None:
    with pytest.raises(UsageError, match="no address of this machine"):
        Address("192.0.2.1", 7860).check_free()


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_ports_have_limits(port: int) -> None:
    with pytest.raises(UsageError, match="port"):
        Address(port=port)


def test_temporary_files_are_gone_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeError), temporary_folder() as folder:
        assert str(folder) in os.environ["GRADIO_TEMP_DIR"]
        (folder / "song.mid").write_bytes(b"MThd")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"max_duration_s": 0.0}, {"max_duration_s": float("nan")}, {"max_bytes": 0}])
def test_limits_that_refuse_everything_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Limits(**wrong)  # type: ignore[arg-type]


def test_the_space_names_what_the_lock_pins() -> None:
    folder = Path(__file__).parents[2] / "examples" / "space"
    front = (folder / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in front and "app_file: app.py" in front
    pins = (folder.parents[1] / "constraints.txt").read_text()
    version = next(line.split(": ")[1] for line in front.splitlines() if line.startswith("sdk_version"))
    assert f"gradio=={version}" in pins
    compile((folder / "app.py").read_text(), "app.py", "exec")
