"""What can read a PDF, behind one interface: a file each, run by `process.py` in a process of its own.

A backend is a module with one function, `read(job) -> Iterator[row]`. It imports the standard
library and its own library alone, nothing of MARK: so a process starts in a fraction of a second,
and Docling may live in an environment of its own. `job` is what `mark.ingest.reading.Job` sends;
the rows are JSON objects, told apart by `kind`:

- `document`: `pages`, `title`; first.
- `page`: `page` (from 1), `label`, `text`, `lines` ([start, end, left, right, baseline, size, bold],
  positions in points, the last five optional), and, where the page holds few characters, `images`
  (share of the page under images) and `print` (share of its rows that look printed once all text
  objects are taken off; None: not looked at); `unmapped`: true where it has letters, but its fonts do
  not say which (`text` is then empty).
- `damaged`: a `page` that cannot be read, with `detail`.
- `fault`: the file cannot be read: a quarantine `code` and `detail`; last.

- `note`: something for the report, in `detail`.
- `unusable`: no file can be read, as models are missing; `detail` is the line that people see.

A backend that ends without an exception is complete. OCRmyPDF's rows carry no pages: it writes a PDF
with a text layer, which the default backend reads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mark.errors import ConfigError

_FOLDER = Path(__file__).parent
PROCESS = _FOLDER / "process.py"
_PROBE = "import importlib.util as u, sys; sys.exit(any(u.find_spec(name) is None for name in sys.argv[1:]))"


@dataclass(frozen=True)
class Backend:
    """A module that reads PDFs."""

    file: Path
    modules: tuple[str, ...]  # what it imports
    remedy: str  # how to install that
    interpreter: str = ""  # environment variable that may name another Python

    @property
    def python(self) -> str:
        """The interpreter that runs it."""
        return os.environ.get(self.interpreter) or sys.executable

    def installed(self) -> bool:
        """Whether its interpreter finds its library; nothing is imported."""
        try:
            done = subprocess.run(
                [self.python, "-P", "-c", _PROBE, *self.modules], capture_output=True, check=False
            )
        except OSError:
            return False
        return done.returncode == 0


BACKENDS = {
    "pdfium": Backend(_FOLDER.parent / "worker.py", ("pypdfium2",), "`make install`"),
    "pypdf": Backend(_FOLDER / "pypdf.py", ("pypdf",), "`make install`"),
    "docling": Backend(
        _FOLDER / "docling.py",
        ("docling",),
        "install it in an environment of its own (`python3 -m venv .venv-docling` and "
        "`.venv-docling/bin/pip install docling`), fetch its models (`.venv-docling/bin/docling-tools models "
        "download`) and name it: `export MARK_DOCLING_PYTHON=$PWD/.venv-docling/bin/python`",
        "MARK_DOCLING_PYTHON",
    ),
    "ocrmypdf": Backend(
        _FOLDER / "ocrmypdf.py",
        ("ocrmypdf", "pikepdf"),
        "`.venv/bin/pip install -c requirements.lock -e '.[ocr]'`",
    ),
}


def check_backend(name: str) -> None:
    """Refuse a reader that is not installed.

    Raises:
        ConfigError: Its library is missing; the message says how to install it.
    """
    backend = BACKENDS[name]
    if not backend.installed():
        raise ConfigError(
            f"ingest.reader is {name}, but {backend.python} has no {backend.modules[0]}; {backend.remedy}"
        )
