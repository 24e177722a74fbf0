"""Copy the metrics of finished runs to nbs/results/, and the figure of milan_28 to nbs/images/.

`make results` calls it with the folders of the runs.
"""

import json
import sys
from pathlib import Path

from PIL import Image

NBS = Path(__file__).parents[1] / "nbs"

for folder in map(Path, sys.argv[1:]):
    metrics = json.loads((folder / "metrics.json").read_text())
    name = "_".join([metrics["dataset"], *([metrics["preset"]] if "preset" in metrics else [])])
    path = NBS / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    provenance = json.loads((folder / "provenance.json").read_text())
    path.write_text(json.dumps({**metrics, "provenance": provenance}, indent=1) + "\n")
    print(path.relative_to(NBS.parent))
    if name == "milan_28":
        figure = NBS / "images" / "week.png"
        figure.parent.mkdir(exist_ok=True)
        Image.open(folder / "figures/week.png").convert("RGB").quantize(128).save(figure, optimize=True)
        print(figure.relative_to(NBS.parent))
