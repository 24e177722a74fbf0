"README.md from nbs/index.ipynb: its words, and the Markdown that its cells print."

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def readme() -> str:
    "Markdown cells and Markdown outputs of the index, in order, with links that work from the top folder."
    parts = []
    for cell in json.loads((ROOT / "nbs/index.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append("".join(cell["source"]))
        parts += [
            "".join(o["data"]["text/markdown"]) for o in cell.get("outputs", []) if "text/markdown" in o.get("data", {})
        ]
    text = "\n\n".join(parts)
    return re.sub(r"\]\((?!https?:|#|\.\./)([^)]+)\)", r"](nbs/\1)", text).replace("](../", "](").strip() + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme())
