"The site: every page whole, every link alive, nothing from another server."

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from conftest import ROOT

PAGES = [
    "index",
    "00_core/01_config",
    "01_data/01_traffic",
    "02_graphs/01_temporal_graph",
    "03_diffusion/01_forward",
    "04_denoisers/05_stunet",
    "05_training/03_trainer",
    "07_evaluation/03_proper_scores",
    "09_reports/01_plots",
    "10_cli/01_cli",
    "experiments/62_overall",
    "findings/1_results",
]


class Page(HTMLParser):
    "Ids, links, what a browser loads, text, and pictures of a page."

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.pictures, self.words = set(), [], [], [], []
        self.hidden = 0  # depth of elements whose content is not text
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.add(values.get("id"))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values["href"])
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "img":
            self.pictures.append(values.get("alt"))
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The folder of the site."
    if not shutil.which("quarto") and importlib.util.find_spec("smalldocs") is None:
        pytest.skip("neither quarto nor smalldocs here: pip install smalldocs")
    out = tmp_path_factory.mktemp("site") / "_docs"
    command = [sys.executable, ROOT / "tools" / "make_docs.py", "--out", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def pages(site):
    "Every page of the site."
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def letters(text):
    "Letters and digits alone, so that quotes, spaces and marks of formulas do not matter."
    return re.sub(r"[\W_]+", "", text)


def introduction(name):
    "The first twelve words of the second Markdown cell, without links and marks."
    notebook = json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text(encoding="utf-8"))
    texts = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", texts[1])
    return " ".join(plain.split()[:12])


@pytest.mark.parametrize("name", PAGES)
def test_introduction_is_on_the_page(site, pages, name):
    words = introduction(name)
    assert letters(words) in letters("".join(pages[site / f"{name}.html"].words)), words


def test_every_notebook_has_a_page(site, pages):
    notebooks = [p for p in (ROOT / "nbs").rglob("[!_.]*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    missing = [p.name for p in notebooks if site / p.relative_to(ROOT / "nbs").with_suffix(".html") not in pages]
    assert not missing


def test_links_and_anchors_lead_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in {*page.links, *page.loaded}:
            if re.match(r"(https?|mailto|data|javascript):", link):
                continue
            address, _, anchor = unquote(link).partition("#")
            target = (path.parent / address.partition("?")[0]).resolve() if address else path.resolve()
            if target.is_dir():
                target /= "index.html"
            known = pages.get(site / target.relative_to(site.resolve())) if target.exists() else None
            if not target.exists() or (anchor and known is not None and anchor not in known.ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken, "\n".join(broken)


def test_nothing_is_loaded_from_another_server(site, pages):
    remote = [link for page in pages.values() for link in page.loaded if re.match(r"(https?:)?//", link)]
    assert not remote
    for path in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(url\([\"']?)?https?:", path.read_text(encoding="utf-8")), path


def test_tables_scroll_and_pictures_have_a_text(pages):
    for path, page in pages.items():
        text = path.read_text(encoding="utf-8")
        assert text.count("<table") == text.count('class="sd-table" tabindex="0"'), path.name
        assert all(page.pictures), f"{path.name}: a picture without alternative text"


def test_sources_are_folded_and_studies_point_to_their_results(site, pages):
    forward = (site / "03_diffusion/01_forward.html").read_text(encoding="utf-8")
    assert '<details class="code-fold">' in forward and '<details open="" class="code-fold">' not in forward
    for path in (site / "experiments").glob("6*.html"):
        assert "../findings/1_results.html" in pages[path].links, path.name


@pytest.mark.parametrize("name", ["index", "03_diffusion/01_forward", "experiments/62_overall", "findings/1_results"])
@pytest.mark.parametrize("width", [1400, 390])
def test_pages_fit_the_window_and_show_formulas(chromium, site, name, width):  # noqa: F811
    window = chromium.new_page(viewport={"width": width, "height": 900})
    requests = []
    window.on("request", lambda request: requests.append(request.url))
    window.goto((site / f"{name}.html").as_uri())
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    assert all(url.startswith(("file:", "data:")) for url in requests)
    formulas = window.locator(".math").count()
    assert window.locator(".math .katex").count() >= formulas
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.className") == "skip-link"
    window.close()


def test_search_finds_pages_that_are_opened_as_files(chromium, site):  # noqa: F811
    if shutil.which("quarto"):
        pytest.skip("Quarto's search needs a server")
    window = chromium.new_page(viewport={"width": 1400, "height": 900})
    window.goto((site / "02_graphs/03_encoders.html").as_uri())
    box = window.locator(".smalldocs-search input").locator("visible=true").first
    box.fill("Schaake shuffle")
    hits = window.locator(".search-result")
    hits.first.wait_for(timeout=20_000)
    found = [hit.get_attribute("href") for hit in hits.all()]
    assert found[0].endswith("07b_joint/04_references.html#schaake_shuffle")  # the function of that name
    assert any("findings/9_sums" in href for href in found), found
    window.close()
