"""What a killed process runs with: `sitecustomize` that counts writes and kills the group at one of them."""

from __future__ import annotations

from tests.stages.running import REFUSE_NETWORK

# DVC starts first and gives its group to its children; only what a stage does is counted and killed.
HOOK = (
    REFUSE_NETWORK
    + """
import os, sys

def _watch():
    import signal, threading
    root, kill_at = os.environ["FAULT_ROOT"] + os.sep, int(os.environ["FAULT_AT"])
    delay_s, group = float(os.environ["FAULT_DELAY_S"]), int(os.environ["FAULT_GROUP"])
    counter = os.open(os.environ["FAULT_COUNTER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def hook(event, arguments):
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & writing):
                return
        elif event not in {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link",
                           "os.symlink", "os.chmod"}:
            return
        path = arguments[0]
        if not isinstance(path, (str, bytes)):
            return
        path = os.path.abspath(os.fsdecode(path))
        if not path.startswith(root) or "__pycache__" in path:
            return
        os.write(counter, b".")
        if os.fstat(counter).st_size == kill_at:
            if delay_s:
                threading.Timer(delay_s, os.killpg, (group, signal.SIGKILL)).start()
            else:
                os.killpg(group, signal.SIGKILL)

    sys.addaudithook(hook)

if "FAULT_COUNTER" in os.environ:
    if "FAULT_GROUP" not in os.environ:
        os.environ["FAULT_GROUP"] = str(os.getpid())
    elif sys.orig_argv[1:3] != ["-m", "dvc"]:
        open(os.environ["FAULT_STARTED"], "a").close()
        _watch()
"""
)
