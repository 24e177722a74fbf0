"The explorer in a real JupyterLab with a real browser: what it shows is what Python computes."

import json
import os
import re
import subprocess
import sys
import time

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from stouter.html_report.situations import describe_place, describe_situation, situation_table
from stouter.html_report.what_if import Changes, WhatIf
from stouter.pipeline.run import load_run

SLOW = 240_000  # milliseconds that a busy machine may need for a step
DAYS = ("2013-11-11", "2013-11-13")  # after the ten days of the run
CELLS = (
    "import stouter\nexplorer = stouter.load_run({run!r}).explore({first!r}, {last!r}, n_samples=4)\nexplorer",
    "explorer.table().to_json('table.json')\nexplorer.save('shown.parquet')",
)


@pytest.fixture(scope="module")
def network(tiny_run):
    "The same network, in this process."
    return WhatIf(load_run(tiny_run[0]), *DAYS, n_samples=4)


@pytest.fixture(scope="module")
def lab(tiny_run, tmp_path_factory, chromium):
    "Folder and address of a JupyterLab with a notebook of two cells."
    folder = tmp_path_factory.mktemp("lab")
    cells = [text.format(run=str(tiny_run[0]), first=DAYS[0], last=DAYS[1]) for text in CELLS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(notebook, folder / "explorer.ipynb")
    places = {f"JUPYTER_{name}_DIR": str(folder / f".{name.lower()}") for name in ("RUNTIME", "CONFIG", "DATA")}
    env = {**os.environ, **places, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token="]
    updates = "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"
    command = [sys.executable, "-m", "jupyterlab", *options, updates, "--LabApp.news_url=None"]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        yield folder, address_of(server, folder)
        server.terminate()
        server.wait(SLOW / 1000)


def address_of(server, folder, seconds=SLOW / 1000):
    "Where the server answers."
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        for path in (folder / ".runtime").glob("jpserver-*.json"):
            if text := path.read_text():
                return json.loads(text)["url"]
        time.sleep(0.2)
    raise AssertionError((folder / "lab.log").read_text()[-3000:])


@pytest.fixture(scope="module")
def page(lab, chromium):
    "The notebook, all cells executed, and a list of what went wrong or was fetched from elsewhere."
    folder, address = lab
    page, trouble = chromium.new_page(viewport={"width": 1500, "height": 1400}), []
    page.set_default_timeout(SLOW)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    local = (address, "data:", "blob:", address.replace("http", "ws"))
    page.on("request", lambda request: request.url.startswith(local) or trouble.append(request.url))
    page.goto(f"{address}lab/tree/explorer.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")  # without a kernel nothing is run
    execute(page, 0)
    page.wait_for_function("document.querySelector('.stouter-explorer [data-part=words]')?.textContent")
    return page, trouble, folder


def execute(page, number):
    "Run a cell; JupyterLab takes no key before the notebook is ready, so until its prompt changes."
    cell = page.locator(".jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt").first
    before, end = prompt.text_content(), time.monotonic() + SLOW / 1000
    while prompt.text_content() == before and time.monotonic() < end:
        cell.locator(".cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(2000)


def part(page, name):
    return page.locator(f".stouter-explorer [data-part={name}]")


def choose(page, station):
    part(page, "station").select_option(label=station)


def wait_for(page, words, name="summary"):
    page.wait_for_function(
        """([name, words]) => document.querySelector(`.stouter-explorer [data-part=${name}]`)
        .textContent.includes(words)""",
        arg=[name, words],
    )


def click_map(page, lon, lat):
    "A click of the mouse at a position of the map."
    spot = page.evaluate(
        """([lon, lat, centre]) => {
        const map = document.querySelector(".stouter-explorer [data-part=map]"), {xaxis, yaxis} = map._fullLayout;
        map.scrollIntoView({block: "center"});
        const box = map.getBoundingClientRect();
        const east = (lon - centre.lon) * 111.2 * Math.cos(centre.lat * Math.PI / 180);
        return [box.x + xaxis._offset + xaxis.d2p(east),
                box.y + yaxis._offset + yaxis.d2p((lat - centre.lat) * 111.2)];
        }""",
        [lon, lat, page.centre],
    )
    page.mouse.move(*spot)
    page.mouse.click(*spot)


def check_shown(page, situation, station):
    "Sentences and curves of a station are those of a situation."
    choose(page, station)
    table = situation_table(situation)
    unit = "internet (CDR activity per hour)"
    assert part(page, "words").text_content() == describe_place(situation, table.loc[station], unit)
    assert describe_situation(situation) in part(page, "summary").text_content()
    curves = page.evaluate(
        "() => Object.fromEntries(document.querySelector('.stouter-explorer [data-part=chart]')"
        ".data.map(trace => [trace.name, trace.y]))"
    )
    row, largest = table.index.get_loc(station), max(situation.load.max(), situation.before.max())
    np.testing.assert_allclose(curves["median"], np.median(situation.load[:, row], axis=0), atol=1e-4 * largest)
    if station in situation.predicted:
        expected = np.median(situation.predicted[station], axis=0)
        np.testing.assert_allclose(curves["predicted"], expected, atol=1e-4 * expected.max())
    return curves


def test_what_is_clicked_is_what_python_computes(page, network):
    page, trouble, folder = page
    places = network.sites[["lon", "lat"]]
    page.centre = places.mean().to_dict()
    check_shown(page, network.apply(Changes()), "5")

    click_map(page, *places.loc["7"])  # a station is chosen by a click
    wait_for(page, "7: ", "words")

    part(page, "power").click()  # and switched off
    wait_for(page, "Now: off: 7.")
    curves = check_shown(page, network.apply(Changes(off=("7",))), "7")
    assert set(curves["median"]) == {0} and max(curves["before"]) > 0
    check_shown(page, network.apply(Changes(off=("7",))), "6")

    part(page, "putOnMap").click()  # a station between four others
    lon, lat = places.loc[["1", "2", "5", "6"]].mean()
    click_map(page, lon, lat)
    wait_for(page, "new1 at ")
    lon, lat = map(float, re.search(r"new1 at ([\d.]+), ([\d.]+)\.", part(page, "summary").text_content()).groups())
    np.testing.assert_allclose([lon, lat], places.loc[["1", "2", "5", "6"]].mean(), atol=2e-4)  # a pixel or two
    both = network.apply(Changes(off=("7",), new=(("new1", lon, lat),)))
    assert part(page, "station").evaluate("list => list.selectedOptions[0].text") == "new1"
    check_shown(page, both, "new1")
    assert part(page, "power").text_content() == "Remove this one"

    execute(page, 1)  # the kernel holds the same
    end = time.monotonic() + SLOW / 1000
    while time.monotonic() < end and not (folder / "shown.parquet").exists():
        page.wait_for_timeout(200)
    kernel = pd.read_json(folder / "table.json").set_axis(situation_table(both).index)
    np.testing.assert_allclose(kernel["mean"], situation_table(both)["mean"], rtol=1e-9)
    saved = pd.read_parquet(folder / "shown.parquet").groupby("station").value.sum()
    np.testing.assert_allclose(saved["new1"], both.load[:, -1].sum(), rtol=1e-5)
    assert not trouble, trouble


def test_controls_have_reasons_and_keys(page, network):
    page, trouble, _ = page
    assert part(page, "holiday").is_disabled() and "trained without them" in part(page, "reason").text_content()
    part(page, "reset").click()
    wait_for(page, "Now: no change.")
    part(page, "lat").fill("45.4421")
    part(page, "lon").fill("9.1530")
    part(page, "put").focus()
    page.keyboard.press("Enter")  # without a mouse
    wait_for(page, "Now: new1 at 9.15300, 45.44210.")
    check_shown(page, network.apply(Changes(new=(("new1", 9.153, 45.4421),))), "new1")
    part(page, "lat").fill("95")
    part(page, "put").click()
    wait_for(page, "expected degrees, -180 to 180 and -90 to 90", "status")
    part(page, "span").select_option(value="24")
    part(page, "slider").focus()
    page.keyboard.press("ArrowRight")
    assert part(page, "from").input_value() == "24"
    assert page.locator(".jp-CodeCell.jp-mod-selected").count() == 1  # JupyterLab did not take the key
    part(page, "reset").click()
    wait_for(page, "Now: no change.")
    width = page.evaluate("[document.querySelector('.stouter-explorer').scrollWidth, innerWidth]")
    assert width[0] <= width[1] and not trouble, trouble
