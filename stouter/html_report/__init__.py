"Report of finished runs as one HTML file, and its week browser for JupyterLab."

from .page import browse_run, write_page
from .run_info import RunView, open_finished

__all__ = ["RunView", "browse_run", "open_finished", "write_page"]
