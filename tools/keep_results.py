"Keep the metrics of finished runs in nbs/results/, and the picture of the first run. Called by `make results` with the runs' folders."

import io
import json
import sys
from pathlib import Path

from PIL import Image

NBS = Path(__file__).parents[1] / "nbs"

for index, folder in enumerate(map(Path, sys.argv[1:])):
    metrics = json.loads((folder / "metrics.json").read_text())
    path = NBS / "results" / f"{metrics['dataset']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps({**metrics, "provenance": json.loads((folder / "provenance.json").read_text())}, indent=1) + "\n"
    )
    print(path.relative_to(NBS.parent))
    if index == 0:
        picture = NBS / "images" / "week.png"
        picture.parent.mkdir(exist_ok=True)
        Image.open(io.BytesIO((folder / "figures/week.png").read_bytes())).convert("RGB").quantize(128).save(
            picture, optimize=True
        )
        print(picture.relative_to(NBS.parent))
