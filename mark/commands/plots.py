"""`mark plots`: DVC's plots as one HTML file that draws without the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mark.commands.dvc import dvc
from mark.errors import MarkError
from mark.files import write_text

TEMPLATE = Path(".dvc/offline_plots.html")  # ignored by git
VEGA_LITE = "5.20"  # DVC's templates are of version 5
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="utf-8">
    {refresh_tag}
    <title>MARK plots</title>
    <style>body { font-family: sans-serif; margin: 2em; } table { border-spacing: 15px; }</style>
    <script>%s</script>
</head>
<body>
    {plot_divs}
</body>
</html>
"""


def draw_plots(out: Path, revisions: list[str], targets: list[str], root: Path) -> str:
    """Write the plots of the workspace, or of revisions over each other, into one file.

    DVC's own page loads Vega from a CDN; this one holds it.

    Args:
        out: The folder to write index.html to.
        revisions: As `dvc plots diff` takes them; none = the workspace alone.
        targets: Plot files, e.g. `plots/train/transformer_lora.json`; none = all.
        root: The project's root.

    Returns:
        The text to print.

    Raises:
        MarkError: DVC failed.
    """
    check_folder(out)
    template = offline_template(root)
    command = ["plots", "diff", *revisions] if revisions else ["plots", "show", *targets]
    if revisions and targets:
        command += ["--targets", *targets]
    dvc([*command, "--html-template", str(template.resolve()), "--out", str(out.resolve())], root)
    return f"{out / 'index.html'} holds {'the' if targets else 'all'} plots and draws without the network"


def check_folder(out: Path) -> None:
    """Make sure that a page may be written into a folder, before anything is computed for it.

    Raises:
        MarkError: It is a file.
    """
    if out.exists() and not out.is_dir():
        raise MarkError(f"--out {out} is a file; give a folder, which gets index.html")


def draw_one(spec: dict[str, Any], out: Path, root: Path) -> Path:
    """Write one plot of our own as such a page.

    Args:
        spec: In Vega-Lite.
        out: The folder to write index.html to.
        root: The project's root.

    Returns:
        The page.
    """
    check_folder(out)
    script = json.dumps(spec).replace("<", "\\u003c")
    drawn = f"<div id='plot'></div><script>vegaEmbed('#plot', {script});</script>"
    page = offline_template(root).read_text(encoding="utf-8")
    write_text(out / "index.html", page.replace("{refresh_tag}", "").replace("{plot_divs}", drawn))
    return out / "index.html"


def set_up(root: Path) -> str:
    """Let `dvc plots show` and `dvc plots diff` themselves draw without the network in this clone.

    Args:
        root: The project's root.

    Returns:
        The text to print.

    Raises:
        MarkError: DVC refused the setting.
    """
    path = offline_template(root)
    dvc(["config", "--quiet", "--local", "plots.html_template", path.name], root)  # relative to .dvc/
    return f"dvc plots draws without the network: {path.relative_to(root)} holds Vega"


def offline_template(root: Path) -> Path:
    """Write the page that DVC fills, with Vega, Vega-Lite and Vega-Embed in it.

    Args:
        root: The project's root.

    Returns:
        Its path.
    """
    import vl_convert

    bundle: Any = vl_convert.javascript_bundle  # its stub asks for what is optional
    path = root / TEMPLATE
    write_text(path, _PAGE % bundle(vl_version=VEGA_LITE))
    return path
