"""Executes one notebook with papermill, in a process that cannot outlive its time.

The process exists so that a hung or killed kernel ends in a message and nothing stays
behind. It imports neither torch nor any other room: it starts in half a second.
"""

import asyncio
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from math import ceil
from pathlib import Path

import psutil
from tqdm import tqdm

# What a run must not depend on: how the user has set up Python, Jupyter and matplotlib.
FOREIGN = ("PYTHON", "JUPYTER", "IPYTHON", "IPYKERNEL", "MPL", "MATPLOTLIB")
KEPT = ("PYTHONPATH", "PYTHONHASHSEED", "MPLCONFIGDIR")
# One thread for each chapter: faster than sharing cores, and the same numbers anywhere.
ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONUTF8": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "SOURCE_DATE_EPOCH": "315532800",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
PROGRESS = "{desc}: {bar:24} code cell {n_fmt}/{total_fmt}, {elapsed}"
TRACEBACK_LINES = 30
SOCKET_NAME = 100  # characters


class ChapterError(RuntimeError):
    """A chapter failed or drifted; the message says which one, where and why."""


async def execute(
    source: Path,
    parameters: Mapping[str, object],
    cell_seconds: float,
    seconds: float,
    root: Path,
) -> dict:
    """The notebook that papermill makes of ``source``; ``root`` holds its blogcore.

    Shows a progress bar on a terminal. Raises ChapterError for a cell that fails or
    takes longer than ``cell_seconds``, a kernel that dies, or a notebook that takes
    longer than ``seconds``; in any case its processes are gone afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="blogcore-") as folder:
        order = {
            "source": str(source),
            "parameters": parameters,
            "cell_seconds": cell_seconds,
            "folder": folder,
        }
        worker = await asyncio.create_subprocess_exec(
            # -P: the runner of this installation, not of the working directory
            *(sys.executable, "-P", "-m", "blogcore.execution", json.dumps(order)),
            env=_environment(root, folder),
            stdin=asyncio.subprocess.PIPE,  # it ends when we do: see _die_with_parent
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the parent's to handle
            limit=2**30,
        )
        try:
            async with asyncio.timeout(seconds):
                return await _follow(worker, source.stem)
        except TimeoutError as error:
            raise ChapterError(
                f"{source.stem}: not done after {seconds:g} s"
            ) from error
        finally:
            _kill(worker)
            await worker.wait()


async def _follow(worker: asyncio.subprocess.Process, name: str) -> dict:
    """Show the cells that a worker begins, until it hands over its result."""
    quiet = not sys.stderr.isatty()
    with tqdm(desc=name, bar_format=PROGRESS, disable=quiet) as bar:
        ticker = asyncio.create_task(_tick(bar))
        try:
            async for line in worker.stdout:
                message = json.loads(line)
                if "notebook" in message:
                    return message["notebook"]
                if "error" in message:
                    raise ChapterError(f"{name}: {message['error']}")
                bar.n, bar.total = message["cell"], message["cells"]
                bar.refresh()
        finally:
            ticker.cancel()
    status = await worker.wait()
    raise ChapterError(f"{name}: its worker process died with status {status}")


async def _tick(bar: tqdm) -> None:
    """Keep a bar's clock going while a cell runs."""
    while True:
        await asyncio.sleep(1)
        bar.refresh()


def _kill(worker: asyncio.subprocess.Process) -> None:
    """End a worker and its kernel, which may be deaf to anything milder."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(worker.pid)
        _kill_all([process, *process.children(recursive=True)])


def _kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _environment(root: Path, folder: str) -> dict[str, str]:
    """A worker's environment, and its kernel's, which imports blogcore from root.

    Configurations are looked for in ``folder`` and nowhere else.
    """
    own = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or not name.startswith(FOREIGN)
    }
    places = ("MATPLOTLIBRC", "IPYTHONDIR")
    places += ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_PATH")
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    if own.get("BLOGCORE_DATA"):  # seen from here, not from the kernel's folder
        own["BLOGCORE_DATA"] = str(Path(own["BLOGCORE_DATA"]).resolve())
    return (
        {"PYTHONHASHSEED": "0"}  # tests vary it
        | own
        | ENVIRONMENT
        | dict.fromkeys(places, f"{folder}/private")
        | {"PYTHONPATH": path, "JUPYTER_RUNTIME_DIR": folder, "TMPDIR": folder}
    )


def _die_with_parent(folder: str) -> None:
    """Wait for the end of the parent, then leave nothing behind."""
    sys.stdin.buffer.read()  # says nothing; ends when the parent has ended, however
    _kill_all(psutil.Process().children(recursive=True))
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _prepare(folder: str) -> None:
    """Write the private configuration: this very Python as the only kernel, fonts."""
    private = Path(folder) / "private"
    kernel = private / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": command, "display_name": "Python 3", "language": "python"}
    kernel.write_text(json.dumps(about), encoding="utf-8")
    for fonts in _font_lists():
        shutil.copy(fonts, private)
    os.environ["MPLCONFIGDIR"] = str(private)


def _font_lists() -> list[Path]:
    """The user's lists of fonts; a kernel that had to make one would say so."""
    import matplotlib  # in the worker only: half a second

    lists = Path(matplotlib.get_cachedir())
    if not any(lists.glob("fontlist-*.json")):
        import matplotlib.font_manager  # writes one
    return [*lists.glob("fontlist-*.json")]


def _work(order: Mapping) -> int:
    """In the worker: execute the notebook, tell each cell begun, then the result."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a kernel prints by itself must not be taken for a message
    watch = threading.Thread(target=_die_with_parent, args=[order["folder"]])
    watch.daemon = True
    watch.start()
    logging.disable()  # what papermill logs of a failure is told in the last message
    _prepare(order["folder"])
    code = _code_cells(order["source"])
    begun = {}

    def say(**message: object) -> None:
        print(json.dumps(message), file=channel, flush=True)

    def begin(cell: Mapping, cell_index: int) -> None:
        if cell["id"] in code:  # papermill's own cell of parameters is not
            begun[cell["id"]] = cell["source"]
            say(cell=len(begun), cells=len(code))

    try:
        notebook = _papermill(order, begin)
    except Exception as error:
        say(error=f"{_where(begun, code)}: {_cause(error)}")
        return 1
    say(notebook=notebook)
    return 0


def _papermill(order: Mapping, begin) -> dict:
    import papermill  # after the environment is set, and only in the worker
    from traitlets.config import Config

    # A port may be taken between its choice and its use; a socket file cannot, but it
    # exists on Linux only and not under a long name.
    socket = f"{os.environ['JUPYTER_RUNTIME_DIR']}/kernel"
    local = sys.platform == "linux" and len(socket) < SOCKET_NAME
    manager = {"transport": "ipc", "ip": socket} if local else {}
    return papermill.execute_notebook(
        order["source"],
        None,
        order["parameters"],
        cwd=Path(order["source"]).parent,
        progress_bar=False,
        execution_timeout=ceil(order["cell_seconds"]),
        on_cell_execute=begin,
        coalesce_streams=True,
        record_timing=False,
        shutdown_kernel="immediate",
        config=Config(KernelManager=manager),
    )


def _code_cells(source: str) -> set[str]:
    cells = json.loads(Path(source).read_text(encoding="utf-8"))["cells"]
    return {c["id"] for c in cells if c["cell_type"] == "code" and "".join(c["source"])}


def _where(begun: Mapping[str, str], code: set[str]) -> str:
    if not begun:
        return "before the first cell"
    line = list(begun.values())[-1].strip().partition("\n")[0]
    return f"code cell {len(begun)} of {len(code)}, `{line}`"


def _cause(error: Exception) -> str:
    """What went wrong, and the last lines of the kernel's traceback if there is one."""
    if not hasattr(error, "traceback"):
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    plain = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
    lines = plain.splitlines()[-TRACEBACK_LINES:]
    return "\n  ".join([f"{error.ename}: {error.evalue}", *lines])


if __name__ == "__main__":
    sys.exit(_work(json.loads(sys.argv[1])))
