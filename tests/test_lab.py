"""make lab: JupyterLab starts without a browser, and offers the notebooks."""

import json
import os
import shlex
import socket
import subprocess
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

ROOT = Path(__file__).parents[1]
OPENER = build_opener(ProxyHandler({}))


def recipe() -> str:
    """What make lab would do, without doing it."""
    command = ["make", "-n", "lab"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", "")


def port() -> int:
    """A port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(address: str, method: str = "GET") -> bytes:
    """What the server answers, once it has started."""
    for _ in range(200):
        try:
            request = Request(address, headers={"Authorization": "token t"})
            request.method = method
            return OPENER.open(request, timeout=30).read()
        except URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
            time.sleep(0.2)
    raise AssertionError(f"no answer from {address}")


def test_copies_that_a_reader_changed_are_kept(tmp_path):
    built = tmp_path / "_build" / "html" / "_sources" / "chapters"
    built.mkdir(parents=True)
    for name in ("a", "b"):
        (built / f"{name}.ipynb").write_text("built", encoding="utf-8")
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "a.ipynb").write_text("mine", encoding="utf-8")
    text = recipe()
    commands = text[text.index("mkdir -p lab") :].partition("\n.venv")[0]
    subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True)
    kept = {p.name: p.read_text("utf-8") for p in (tmp_path / "lab").iterdir()}
    assert kept == {"a.ipynb": "mine", "b.ipynb": "built"}


@pytest.mark.slow
def test_jupyterlab_starts_and_offers_the_notebooks(tmp_path):
    (line,) = [line for line in recipe().splitlines() if "bin/jupyter lab" in line]
    program, *options = shlex.split(line)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "flooding.ipynb").write_text("{}", encoding="utf-8")
    number = port()
    options += ["--no-browser", "--allow-root", f"--port={number}"]
    options += ["--IdentityProvider.token=t", "--ServerApp.port_retries=0"]
    home = {"HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    # Whoever asks the network for something fails.
    home |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    server = subprocess.Popen(
        [ROOT / program, *options],
        cwd=tmp_path,
        env=os.environ | home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    address = f"http://127.0.0.1:{number}"
    try:
        assert b"JupyterLab" in ask(f"{address}/lab")
        files = json.loads(ask(f"{address}/api/contents/"))["content"]
        assert [file["name"] for file in files] == ["flooding.ipynb"]
        assert "python3" in json.loads(ask(f"{address}/api/kernelspecs"))["kernelspecs"]
        ask(f"{address}/api/shutdown", "POST")
        said, _ = server.communicate(timeout=30)
    finally:
        server.kill()
        server.wait()
    assert server.returncode == 0, said
    assert "Traceback" not in said
