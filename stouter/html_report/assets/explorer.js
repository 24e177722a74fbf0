const ORANGE = "#d55e00";
const KM_PER_DEGREE = 111.2;  // as in to_km

// Traffic after a change: the median before it is dashed, the model's prediction of a new station orange.
class LoadBrowser extends WeekBrowser {
  curves(before, p10, p25, p50, p75, p90, low, middle, high) {
    const curves = this.bands(p10, p25, p50, p75, p90);
    if (low.some(v => v !== null)) {
      curves.push(...this.band("predicted, 80 %", low, high, ORANGE + "33"));
      curves.push(this.line("predicted", middle, {color: ORANGE, width: 2}));
    }
    if (before.some((v, i) => v !== null && v !== p50[i])) {
      curves.push(this.line("before", before, {color: BLACK, width: 1.5, dash: "dot"}));
    }
    return curves;
  }

  layout() {
    const layout = super.layout();
    layout.legend.entrywidth = 112;
    return layout;
  }

  sentence() {
    return this.weeks.words[this.station];
  }

  markOnMap() {
    super.markOnMap();
    if (this.onStation) this.onStation();
  }
}

// Map and curves of one situation (see situation_view); show() draws another one.
class SituationMap {
  constructor(root, frame, situation, onStation) {
    this.node = root.querySelector("[data-part=map]");
    this.situation = situation;
    Plotly.newPlot(this.node, situation.map.data, situation.map.layout, mapChart);
    const browser = root.querySelector(".browser");
    this.browser = new LoadBrowser(browser, situation.weeks, situation.unit, frame, this.node);
    this.browser.onStation = onStation;
    this.node.on("plotly_doubleclick", () => false);
  }

  get station() { return this.situation.weeks.stations[this.browser.station]; }

  show(situation, station) {
    const browser = this.browser, chosen = station || this.station;
    this.situation = situation;
    Plotly.react(this.node, situation.map.data, situation.map.layout, mapChart);
    browser.weeks = situation.weeks;
    browser.values = dequantize(situation.weeks);
    browser.fillStations();
    browser.change({station: Math.max(0, situation.weeks.stations.indexOf(chosen))});
  }
}
