"Store the figures of notebooks as PNGs of 128 colours, without progress bars. `make nbs` gives it the notebooks."

import base64
import io
import json
import sys
from pathlib import Path

from PIL import Image

WIDGET = "application/vnd.jupyter.widget-view+json"  # a progress bar of tqdm, or the explorer, which has a figure too


def shrink(png: str) -> str:
    "A base64 PNG with a palette of 128 colours, or the PNG as it is if that is smaller."
    small = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(128).save(small, "PNG", optimize=True)
    return min(png.replace("\n", ""), base64.b64encode(small.getvalue()).decode(), key=len)


for path in map(Path, sys.argv[1:]):
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if "outputs" in cell:
            shown = (o for o in cell["outputs"] if WIDGET not in o.get("data", {}) or "image/png" in o["data"])
            cell["outputs"] = list(shown)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = shrink(output["data"]["image/png"])
    notebook["metadata"].pop("widgets", None)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
