"The page of finished runs: one file, no network, and it reacts."

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from conftest import stouter
from plotly.offline import get_plotlyjs
from test_bad_input import refused

from stouter.data.traffic import Traffic, open_traffic, save_traffic
from stouter.html_report.run_info import format_number
from stouter.html_report.situations import situation_table, write_situation
from stouter.html_report.what_if import Changes, WhatIf
from stouter.pipeline.run import load_run


def opened(chromium, path, width):
    "The page in a window, and a list that collects what goes wrong and what is fetched."
    page, trouble = chromium.new_page(viewport={"width": width, "height": 900}), []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or trouble.append(request.url)
    )
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelector('section.run:not([hidden]) [data-part=words]').textContent")
    return page, trouble


def with_gaps(source, copy):
    """The same run, with gaps: one station lacks a day of its test traffic and another all of it.

    The unit and the name of an input file look like HTML.
    """
    shutil.copytree(source, copy)
    traffic = open_traffic(copy / "traffic.nc")
    volume = traffic.dataset["volume"].values.copy()
    volume[1, -24:], volume[2, -72:] = np.nan, np.nan
    changed = Traffic(
        traffic.dataset.load()
        .assign(volume=(traffic.dataset["volume"].dims, volume))
        .assign_attrs(unit="<b>calls</b></script>")
    )
    traffic.dataset.close()
    save_traffic(changed, copy / "traffic.nc")
    manifest = yaml.safe_load((copy / "run.yaml").read_text())
    manifest["config"]["data"]["min_coverage"] = 0.5
    (copy / "run.yaml").write_text(yaml.safe_dump(manifest))
    record = json.loads((copy / "provenance.json").read_text())
    record["inputs"] = {"raw/<b>day</b>.txt": {"bytes": 1234, "sha256": "5" * 64}}
    (copy / "provenance.json").write_text(json.dumps(record))
    return copy


@pytest.fixture(scope="module")
def page_file(tiny_run, tmp_path_factory):
    "A page of two runs; the second has gaps in its test traffic."
    place = tmp_path_factory.mktemp("page")
    done = stouter("report", tiny_run[0], with_gaps(tiny_run[0], place / "gaps"), "--out", place / "page.html")
    assert done.stdout.startswith("2 runs -> ")
    return place / "page.html"


class References(HTMLParser):
    "Everything in a page that a browser would load."

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.found += [
            value for name, value in attributes if name in ("src", "srcset", "href", "data", "action", "poster")
        ]


def test_nothing_is_loaded_from_outside(page_file):
    text = page_file.read_text()
    parser = References()
    parser.feed(text)
    assert parser.found == ["data:,"] and "b" not in parser.tags  # the icon; a name stays text
    ours = text.replace(get_plotlyjs(), "")
    assert len(ours) < 300_000 and not re.search(r"https?:|@import|url\(", ours)
    assert "default-src 'none'" in ours and "&lt;b&gt;calls&lt;/b&gt;" in ours
    assert (
        ours.count("Input files (1)") == 1
        and "raw/&lt;b&gt;day&lt;/b&gt;.txt" in ours
        and f"1,234 bytes, SHA-256 {'5' * 64}" in ours
    )


@pytest.mark.parametrize("width", [1400, 390])
def test_map_and_weeks_react(chromium, page_file, width):
    page, trouble = opened(chromium, page_file, width)
    run = page.locator("section.run").first
    words, station, first = (
        run.locator("[data-part=words]"),
        run.locator("[data-part=station]"),
        run.locator("[data-part=from]"),
    )
    rows = json.loads(page.locator("#runs").text_content())["views"][0]["weeks"]
    assert (
        station.input_value() == str(rows["start"])
        and "of 72 measured hours the 80 % band holds" in words.text_content()
    )
    other = (rows["start"] + 5) % 12
    spot = page.evaluate(
        """row => {
        const map = document.querySelector("section.run [data-figure=map]");
        const place = map.data[1].customdata.indexOf(row), {xaxis, yaxis} = map._fullLayout;
        map.scrollIntoView({block: "center"});
        const box = map.getBoundingClientRect();
        return [
            box.x + xaxis._offset + xaxis.d2p(map.data[1].x[place]),
            box.y + yaxis._offset + yaxis.d2p(map.data[1].y[place]),
        ];
    }""",
        other,
    )
    page.mouse.move(*spot)
    page.mouse.click(*spot)
    page.wait_for_function("row => document.querySelector('[data-part=station]').value === row", arg=str(other))
    assert words.text_content().startswith(f"Station {rows['stations'][other]}, Fri 8 Nov to Sun 10 Nov:")
    curve = "() => JSON.stringify(document.querySelector('[data-part=chart]').data.map(trace => trace.y))"
    before = page.evaluate(curve)
    run.get_by_label("next station").click()
    assert station.input_value() == str((other + 1) % 12) and page.evaluate(curve) != before
    run.locator("[data-part=span]").select_option(value="24")
    assert "Fri 8 Nov: of 24 measured hours" in words.text_content()
    run.get_by_role("group", name="Curves").focus()
    page.keyboard.press("ArrowRight")
    assert first.input_value() == "24" and "Sat 9 Nov: of 24" in words.text_content()
    page.keyboard.press("ArrowUp")
    assert station.input_value() == str(other)
    run.get_by_label("later", exact=True).click()
    assert run.get_by_label("later", exact=True).is_disabled() and "Sun 10 Nov" in words.text_content()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width and not trouble, trouble


def test_another_run_and_its_gaps(chromium, page_file):
    page, trouble = opened(chromium, page_file, 1000)
    page.select_option("#chooser", index=1)
    run = page.locator("section.run").nth(1)
    assert run.is_visible() and not page.locator("section.run").first.is_visible()
    words, station = run.locator("[data-part=words]"), run.locator("[data-part=station]")
    station.select_option(index=1)
    assert "of 48 measured hours" in words.text_content() and "24 hours are missing" in words.text_content()
    station.select_option(index=2)
    assert words.text_content().endswith("no hour was measured.")
    assert not trouble, trouble


def test_counts_of_the_page_are_those_of_the_run(chromium, tiny_run, page_file):
    "The sentences of all stations together must give the coverage that the metrics give."
    page, _ = opened(chromium, page_file, 1000)
    held = 0
    for row in range(12):
        page.locator("section.run [data-part=station]").first.select_option(index=row)
        held += int(
            re.search(r"80 % band holds (\d+)", page.locator("section.run [data-part=words]").first.text_content())[1]
        )
    expected = json.loads((tiny_run[0] / "metrics.json").read_text())["methods"]["STOUTER"]["coverage_80"]
    assert held / (12 * 72) == pytest.approx(expected, abs=0.01)


def test_buttons_of_scenarios(chromium, tiny_run, tmp_path):
    "Situations that were generated beforehand: the sentences are those of Python."
    run, network = tiny_run[0], WhatIf(load_run(tiny_run[0]), "2013-11-11", "2013-11-11", n_samples=3)
    for name, changes in {"base": Changes(), "off": Changes(off=("7",))}.items():
        write_situation(network, network.apply(changes), changes, tmp_path / f"{name}.parquet")
    words = [
        word for name in ("base", "off") for word in ("--scenario", f"station 7: {name}={tmp_path / name}.parquet")
    ]
    stouter("report", run, "--out", tmp_path / "page.html", *words)
    page, trouble = opened(chromium, tmp_path / "page.html", 1300)
    part = page.locator(".what-if")
    part.get_by_role("button", name="station 7: off").click()
    part.locator("[data-part=station]").select_option(label="7")
    before = situation_table(network.apply(Changes())).loc["7", "mean"]
    assert part.locator("[data-part=words]").text_content().endswith(f"; before {format_number(before)}.")
    assert part.get_by_role("button", name="station 7: off").get_attribute("aria-pressed") == "true"
    assert part.locator("[data-part=map]").evaluate("map => map.data[1].marker.symbol").count("circle-open") == 1
    assert not trouble, trouble
    refused("report", run, "--scenario", "off.parquet", "--out", tmp_path / "p.html", says=["expected NAME=FILE"])


@pytest.mark.parametrize(
    "changes",
    [
        ("data.source.n_stations", 1),
        ("data.period", "week", "data.source.n_days", 24, "data.n_test_periods", 1),
    ],
    ids=["one station", "weeks"],
)
def test_other_shapes(tmp_path, changes):
    words = [word for key, value in zip(changes[::2], changes[1::2]) for word in ("-p", key, value)]
    stouter("run", "tiny", "--out", tmp_path / "run", "-p", "train.n_updates", 2, *words)
    stouter("report", tmp_path / "run", "--out", tmp_path / "page.html")
    weeks = json.loads(re.search(r'id="runs">(.*?)</script>', (tmp_path / "page.html").read_text(), re.S)[1])["views"][
        0
    ]["weeks"]
    assert (len(weeks["stations"]), weeks["hours"]) == ((1, 72) if len(changes) == 2 else (12, 168))


def test_bad_input_is_one_line(tiny_run, tmp_path):
    run = tiny_run[0]
    refused("report", tmp_path, "--out", tmp_path / "p.html", says=["no run in", "stouter run"])
    refused("report", run, "--out", tmp_path / "p.pdf", says=["must end in .html"])
    (tmp_path / "file").write_text("")
    refused("report", run, "--out", tmp_path / "file/p.html", says=["cannot write into"])
    part = shutil.copytree(run, tmp_path / "part")
    (part / "metrics.json").unlink()
    refused("report", part, "--out", tmp_path / "p.html", says=["not finished", "metrics.json"])
    assert not list(tmp_path.glob("*.html"))
