"""The site: notebooks processed by nbdev, rendered by Quarto where it is installed and by smalldocs elsewhere.

The pages load nothing from another server: KaTeX and its fonts lie in `tools/site/katex`.
"""

import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from base64 import b64decode
from pathlib import Path

from nbdev.processors import FilterDefaults
from nbdev.serve_drv import main as process_notebook

ROOT = Path(__file__).parents[1]
NBS = ROOT / "nbs"
ASSETS = ROOT / "tools" / "site"
TEXT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "GLOSSARY.md", "benchmarks/results.md")
WIDE_PIXELS = 900  # a wider picture needs more than the column of text
REMOTE_KATEX = re.compile(r"https://cdn\.jsdelivr\.net/npm/katex@[\d.]+/dist/(contrib/)?")
FETCH_INDEX = re.compile(r'const r = await fetch\(offset \+ "search\.json"\);\s*index = await r\.json\(\);')
SCRIPT_INDEX = """if (location.protocol === "file:") {  // a browser fetches no files beside a page, but loads scripts
        await new Promise((done, failed) => {
          const script = Object.assign(document.createElement("script"), { onload: done, onerror: failed });
          document.head.append(Object.assign(script, { src: offset + "search.js" }));
        });
        index = window.searchIndex;
      } else {
        index = await (await fetch(offset + "search.json")).json();
      }"""
REMOTE_FONTS = re.compile(r"@import\s+url\([\"']?https?:[^)]*\)[^;]*;")
STUDY_NOTE = """::: {.callout-note}
This notebook is stored without outputs. `stouter sweep %s` runs the study and executes it.
Tables and figures of the finished studies are in [Results](../findings/1_results.ipynb).
:::
"""
RUN_NOTE = """::: {.callout-note}
This notebook is stored without outputs. `stouter run` executes it for one data set and stores it beside the results.
:::
"""


def stage(folder: Path) -> None:
    "Processed notebooks, pictures and text pages, as the renderer expects them."
    notebooks = sorted(path for path in NBS.rglob("[!_.]*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    for path in notebooks:
        copy = folder / path.relative_to(NBS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        process_notebook((path, copy, FilterDefaults))
        edit_notebook(copy)
    for path in [*NBS.rglob("*.png"), *NBS.rglob("*.svg")]:
        copy = folder / path.relative_to(NBS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for name in TEXT_PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace("](nbs/", "]("), encoding="utf-8")
    shutil.copy(ROOT / "_quarto.yml", folder / "_quarto.yml")
    shutil.copy(ASSETS / "site.css", folder / "site.css")


def edit_notebook(path: Path) -> None:
    "Changes that a page needs and the notebook does not."
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    for cell in cells:
        cell["source"] = "".join(cell["source"])
    cells[0]["source"] = re.sub(r"^output-file: .*\n", "", cells[0]["source"], flags=re.M)  # keep the file's own name
    for cell, following in zip(cells, [*cells[1:], None]):
        if cell["cell_type"] == "code":
            cell["source"] = options_of_figures(cell, following) + cell["source"]
            cell["source"] = cell["source"].replace("#| code-fold: show", "#| code-fold: true")
        elif cell["cell_type"] == "markdown":
            cell["source"] = cell["source"].replace("](../CONTRIBUTING.md)", "](CONTRIBUTING.md)")
            cell["source"] = cell["source"].replace("](../CHANGELOG.md)", "](CHANGELOG.md)")
            cell["source"] = cell["source"].replace("](../../GLOSSARY.md)", "](../GLOSSARY.md)")
            if path.stem == "index":
                cell["source"] = re.sub(r"`((?:CONTRIBUTING|CHANGELOG|GLOSSARY)\.md)`", r"[\1](\1)", cell["source"])
    if path.parent.name == "experiments":
        note = RUN_NOTE if path.stem == "run" else STUDY_NOTE % path.stem
        cells.insert(2, {"cell_type": "markdown", "metadata": {}, "source": note})
    path.write_text(json.dumps(notebook), encoding="utf-8")


def options_of_figures(cell: dict, following: dict | None) -> str:
    "Alternative text of a cell's pictures, unless the cell has its own; a wider column for wide pictures."
    outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
    pictures = [b64decode("".join(data["image/png"])) for data in outputs if "image/png" in data]
    if not pictures:
        return ""
    options = ""
    if "#| fig-alt:" not in cell["source"]:
        options = f"#| fig-alt: {json.dumps(text_below(following), ensure_ascii=False)}\n"
    widths = [struct.unpack(">I", picture[16:20])[0] for picture in pictures]
    if max(widths) > WIDE_PIXELS:
        options += "#| column: page\n"
    return options


def text_below(following: dict | None) -> str:
    "The first sentence below a picture; `Figure` where there is none."
    if following is None or following["cell_type"] != "markdown":
        return "Figure"
    paragraph = "".join(following["source"]).strip().split("\n\n")[0]
    if paragraph.startswith(("#", "|", "$$", ">", "!", "-")):
        return "Figure"
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", paragraph.replace("\n", " "))
    return re.split(r"(?<=[.!?]) ", re.sub(r"[`*$\\]", "", plain))[0]


def render(folder: Path) -> Path:
    "HTML of a staged folder."
    command = ["quarto", "render", "--no-execute"]
    if not shutil.which("quarto"):
        command = [sys.executable, "-c", "from smalldocs.cli import main; main()", "render"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "_docs"


def finish(site: Path) -> None:
    "Local formulas and fonts, a link that skips the navigation, boxes around wide tables, search in files."
    libraries = site / "site_libs"
    search_in_files(site)
    shutil.copytree(ASSETS / "katex", libraries / "katex", ignore=shutil.ignore_patterns("README.md"))
    for path in libraries.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        path.write_text(REMOTE_FONTS.sub("", text), encoding="utf-8")
    for path in site.rglob("*.html"):
        to_root = os.path.relpath(site, path.parent)
        text = path.read_text(encoding="utf-8").replace("\b", "")  # in help texts it marks lines that stay lines
        text = REMOTE_KATEX.sub(f"{to_root}/site_libs/katex/", text)
        path.write_text(box_tables(add_skip_link(text)), encoding="utf-8")


def search_in_files(site: Path) -> None:
    "The index of the search as a script too, for pages that are opened as files; only smalldocs reads it."
    for path in site.rglob("smalldocs.js"):
        text, n = FETCH_INDEX.subn(lambda _: SCRIPT_INDEX, path.read_text(encoding="utf-8"))
        if n:
            path.write_text(text, encoding="utf-8")
            index = (site / "search.json").read_text(encoding="utf-8")
            (site / "search.js").write_text(f"window.searchIndex = {index};\n", encoding="utf-8")


def add_skip_link(page: str) -> str:
    "A first link, seen when it has the keyboard's focus, that leads to the text of the page."
    target = re.search(r'<main[^>]* id="([^"]+)"', page)
    if target is None:
        return page
    link = f'<a class="skip-link" href="#{target[1]}">Skip to the text</a>'
    return re.sub(r"(<body[^>]*>)", lambda body: body[1] + link, page, count=1)


def box_tables(page: str) -> str:
    "Every table in a box that scrolls and can be reached by the keyboard."
    box = '<div class="sd-table" tabindex="0" role="region" aria-label="Table">'

    def in_box(match: re.Match) -> str:
        return box + match[2] if match[1] else f"{box}{match[2]}</div>"

    return re.sub(r'(<div class="sd-table">\s*)?(<table\b.*?</table>)', in_box, page, flags=re.S)


def build(out: Path) -> None:
    "The whole site."
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder))
        site = render(Path(folder))
        finish(site)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(site, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "_docs", help="folder of the site; replaced as a whole")
    arguments = parser.parse_args()
    os.chdir(ROOT)  # nbdev reads its settings from here
    build(arguments.out.resolve())
    print(f"site: {arguments.out / 'index.html'}")
