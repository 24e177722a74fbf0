"README.md from nbs/index.ipynb, README.md of each folder of notebooks, and the list of departures from the paper."

import json
import re
from pathlib import Path
from posixpath import normpath

ROOT = Path(__file__).parents[1]
NBS = ROOT / "nbs"
DEPARTURES = NBS / "findings" / "7_departures.ipynb"
DEPARTURES_CELL = "d0000007"  # id of the markdown cell that this tool writes
FOLDERS = {
    "00_core": ("Core", "Configuration, files and plot style, used by all other packages."),
    "01_data": (
        "Data",
        "Traffic, call-detail records, stations, places of interest, simulated city (paper, section 3).",
    ),
    "02_graphs": ("Graphs", "Temporal graph, base station graph and their pretraining (paper, section 4)."),
    "03_diffusion": ("Diffusion", "Noise schedules, samplers and prediction targets (paper, sections 5.1, 5.2, 5.4)."),
    "04_denoisers": ("Denoisers", "STUnet, its blocks, fusion and attention, and DiffWave (paper, section 5.3)."),
    "05_training": ("Training", "Batches, training state, trainer, generator and distillation (paper, section 5.4)."),
    "06_baselines": ("Baselines", "VAE, TCN-GAN and methods without training (paper, section 6.1.2)."),
    "07_evaluation": ("Evaluation", "Scores, calibration, realism and forecasting (paper, sections 6.1.3 and 6.6)."),
    "07b_joint": ("Joint samples", "Dependence between stations and days, drawn in the noise of the sampler."),
    "08_pipeline": ("Pipeline", "All stages of a run, from a configuration to its metrics (paper, Figure 2)."),
    "08b_planning": (
        "Planning",
        "Overload, new sites and sleeping sites, decided from generated traffic (paper, sections 1 and 7).",
    ),
    "09_reports": ("Reports", "Figures, tables and the HTML page of finished runs."),
    "10_cli": ("Command line", "The command `stouter`."),
    "tutorials": ("Tutorials", "One job each, from files to a result."),
    "findings": ("Findings", "One question each, answered from finished runs."),
    "experiments": ("Experiments", "Executed by `stouter run` and `stouter sweep`; the paper's tables and figures."),
}  # folder of nbs/ -> title and sentence of its README
ON_PAPER = re.compile(r"\bpaper|\bEqs?\.|\bpublished\b", re.I)  # what makes a callout one on the paper
STANDING = re.compile(r"`((?:CONTRIBUTING|CHANGELOG|GLOSSARY)\.md|LICENSE|CITATION\.cff)`")  # files beside the README


def read_cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source_of(cell: dict) -> str:
    return "".join(cell["source"])


def readme() -> str:
    "Markdown cells and Markdown outputs of the index, in order, with links that work from the top folder."
    parts = []
    for cell in read_cells(NBS / "index.ipynb"):
        if cell["cell_type"] == "markdown":
            parts.append(source_of(cell))
        for output in cell.get("outputs", []):
            parts.append("".join(output.get("data", {}).get("text/markdown", "")))
    text = "\n\n".join(part for part in parts if part)
    text = re.sub(r"\[(\d\d_\w+)\]\(\1/[^)]*\)", r"[\1](\1)", text)  # a folder's name leads to the folder
    text = re.sub(r"\]\((?!https?:|#|\.\./)([^)]+)\)", r"](nbs/\1)", text).replace("](../", "](")
    return STANDING.sub(r"[\1](\1)", text).strip() + "\n"


def title_and_sentence(path: Path) -> tuple[str, str]:
    "Of a notebook: the heading and the quote of its first cell."
    title, sentence = source_of(read_cells(path)[0]).strip().split("\n\n", 1)
    return title.removeprefix("# "), re.sub(r"\s*\n>\s*", " ", sentence.strip()).removeprefix("> ")


def notebooks_of(folder: str) -> list[Path]:
    return sorted(path for path in (NBS / folder).glob("*.ipynb") if path.name[0] not in "_.")


def folder_readme(folder: str) -> str:
    "Title and sentence of every notebook of a folder, with links."
    title, sentence = FOLDERS[folder]
    lines = [f"# {title}", "", sentence, "", "| notebook | title | what it is |", "|---|---|---|"]
    for path in notebooks_of(folder):
        cells = [text.replace("|", "\\|") for text in title_and_sentence(path)]
        lines.append(f"| [{path.stem}]({path.name}) | {cells[0]} | {cells[1]} |")
    lines += ["", "This list is written by `make readme`."]
    return "\n".join(lines) + "\n"


def callouts(path: Path) -> list[str]:
    "Of a notebook: the quotes and callout blocks that speak of the paper, each as one paragraph without its label."
    found = []
    for cell in read_cells(path)[1:]:
        if cell["cell_type"] != "markdown":
            continue
        text = source_of(cell)
        quotes = [re.sub(r"^> ?", "", quote, flags=re.M) for quote in re.findall(r"(?:^>.*\n?)+", text, flags=re.M)]
        blocks = re.findall(r"^::: ?\{\.callout[^}]*\}\n(.*?)^:::", text, flags=re.M | re.S)
        for quote in quotes + blocks:
            plain = re.sub(r"^#+ (.*)\n", r"**\1.** ", quote.strip())
            plain = re.sub(r"\s*\n\s*", " ", plain)
            plain = re.sub(r"^\*\*(?:Callout|Departure)[.:]?([^*]*)\*\*:?", r"\1", plain).strip(" :")
            if ON_PAPER.search(plain) and not plain.startswith("**What follows"):
                found.append(plain[:1].upper() + plain[1:])
    return found


def from_findings(text: str, path: Path) -> str:
    "Links of a notebook's text as they are written in nbs/findings/."

    def move(match: re.Match) -> str:
        target = normpath((Path(path.parent.name) / match[1]).as_posix())
        return f"](../{target})".replace("](../findings/", "](")

    return re.sub(r"\]\((?!https?:|#)([^)]+)\)", move, text)


def departures() -> str:
    "All callouts of the notebooks on the paper, by folder, with links to the notebooks."
    lines = ["## All callouts", "", "This list is collected from the notebooks by `make readme`."]
    for folder in sorted(FOLDERS, key=lambda name: (not name[0].isdigit(), name)):
        items = []
        for path in notebooks_of(folder):
            if path == DEPARTURES:
                continue
            link = f"[{title_and_sentence(path)[0]}](../{folder}/{path.name})".replace("(../findings/", "(")
            items += [f"- {link}: {from_findings(text, path)}" for text in callouts(path)]
        if items:
            lines += ["", f"### {FOLDERS[folder][0]}", "", *items]
    return "\n".join(lines)


def departures_notebook() -> str:
    "The text of the notebook of departures with its generated cell made anew."
    notebook = json.loads(DEPARTURES.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["id"] == DEPARTURES_CELL:
            cell["source"] = departures().splitlines(True)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def generated_files() -> dict[Path, str]:
    "Every file that this tool writes, with its text."
    files = {DEPARTURES: departures_notebook(), ROOT / "README.md": readme()}
    return files | {NBS / folder / "README.md": folder_readme(folder) for folder in FOLDERS}


if __name__ == "__main__":
    for path, text in generated_files().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
