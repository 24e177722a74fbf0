"""Copy the metrics of finished runs to nbs/results/, and the figure of milan_28 to nbs/images/.

`make results` calls it with the folders of the runs.
"""

import json
import sys
from pathlib import Path

from PIL import Image

NBS = Path(__file__).parents[1] / "nbs"
STAGES = ("load_city", "pretrain_graphs", "train_method", "generate_samples", "evaluate_run")  # a cell of the run each


def stage_seconds(folder: Path) -> dict[str, float]:
    "Seconds of wall clock of each stage, from the executed notebook of a run; none for a run without it."
    path = folder / "run.ipynb"
    cells = json.loads(path.read_text())["cells"] if path.exists() else []
    seconds = {}
    for cell in cells:
        duration = cell["metadata"].get("papermill", {}).get("duration")
        for stage in STAGES:
            if duration and f" = {stage}(" in "".join(cell["source"]):
                seconds[stage] = round(duration, 1)
    return seconds


for folder in map(Path, sys.argv[1:]):
    metrics = json.loads((folder / "metrics.json").read_text())
    name = "_".join([metrics["dataset"], *([metrics["preset"]] if "preset" in metrics else [])])
    path = NBS / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    provenance = json.loads((folder / "provenance.json").read_text())
    kept = {**metrics, "stage_seconds": stage_seconds(folder), "provenance": provenance}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    print(path.relative_to(NBS.parent))
    if name == "milan_28":
        figure = NBS / "images" / "week.png"
        figure.parent.mkdir(exist_ok=True)
        Image.open(folder / "figures/week.png").convert("RGB").quantize(128).save(figure, optimize=True)
        print(figure.relative_to(NBS.parent))
