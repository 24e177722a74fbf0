"The site: notebooks processed by nbdev, rendered by Quarto where it is installed and by smalldocs elsewhere."

import shutil
import subprocess
import sys
from pathlib import Path

from nbdev.serve import proc_nbs

ROOT = Path(__file__).parents[1]
STAGE = ROOT / "_proc"

shutil.rmtree(STAGE, ignore_errors=True)
staged = Path(proc_nbs(n_workers=0) or STAGE)
shutil.copy(ROOT / "_quarto.yml", staged / "_quarto.yml")
command = (
    ["quarto", "render", "--no-execute"]
    if shutil.which("quarto")
    else [str(Path(sys.executable).parent / "smalldocs"), "render"]
)
subprocess.run(command, cwd=staged, check=True)
shutil.rmtree(ROOT / "_docs", ignore_errors=True)
shutil.move(staged / "_docs", ROOT / "_docs")
print(f"site: {(ROOT / '_docs' / 'index.html').relative_to(ROOT)}")
