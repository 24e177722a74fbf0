"use strict";

const HOUR = 3600e3;  // milliseconds
const MISSING_CODE = 65535;  // code of a missing value, as in quantize_uint16
const BLUE = "#0173b2", BLACK = "#222222";
const plainChart = {responsive: true, displaylogo: false, displayModeBar: false};
const mapButtons = ["zoomIn2d", "zoomOut2d", "pan2d", "resetScale2d"];
const mapChart = {...plainChart, displayModeBar: true, modeBarButtons: [mapButtons]};

// The inverse of quantize_uint16: volumes of one kind (the first axis) and station, null where missing.
function dequantize(weeks) {
  const bytes = Uint8Array.from(atob(weeks.codes), letter => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return (kind, station, from, to) => {
    const start = (kind * weeks.stations.length + station) * weeks.hours;
    const values = [];
    for (let hour = from; hour < to; hour++) {
      const code = view.getUint16(2 * (start + hour), true);
      values.push(code === MISSING_CODE ? null : weeks.low[station] + code * weeks.step[station]);
    }
    return values;
  };
}

// Wall-clock time of an hour, computed as if in UTC, so that the reader's time zone has no effect.
function timeOf(weeks, hour) {
  return new Date(Date.parse(weeks.first + "Z") + hour * HOUR);
}

function dateText(time) {
  return time.toLocaleDateString("en-GB", {weekday: "short", day: "numeric", month: "short", timeZone: "UTC"});
}

function isoMinute(time) {
  return time.toISOString().slice(0, 16);
}

// State: station, first hour and number of hours shown. Every change of them ends in draw().
class WeekBrowser {
  constructor(root, weeks, unit, frame, map) {
    this.root = root;
    this.weeks = weeks;
    this.unit = unit;
    this.frame = frame;  // layout of a figure
    this.map = map;  // null where the page has no map
    this.values = dequantize(weeks);
    this.station = weeks.start;
    this.span = Math.min(168, weeks.hours);
    this.from = 0;
    this.part = {};
    root.querySelectorAll("[data-part]").forEach(node => { this.part[node.dataset.part] = node; });
    this.fillLists();
    this.listen();
    this.draw();
  }

  fillLists() {
    const {weeks, part} = this;
    this.fillStations();
    if (weeks.hours < 168) part.span.add(new Option(`all ${weeks.hours} hours`, weeks.hours));
    else part.span.add(new Option("one week", 168));
    if (weeks.hours > 24) part.span.add(new Option("one day", 24));
  }

  fillStations() {
    this.part.station.replaceChildren(...this.weeks.stations.map((name, row) => new Option(name, row)));
  }

  listen() {
    const {part, root} = this;
    part.station.onchange = () => this.change({station: Number(part.station.value)});
    part.span.onchange = () => this.change({span: Number(part.span.value)});
    part.from.onchange = () => this.change({from: Number(part.from.value)});
    part.slider.oninput = () => this.change({from: this.starts()[part.slider.value]});
    root.querySelectorAll("button[data-move]").forEach(button => {
      button.onclick = () => this.move(button.dataset.move);
    });
    root.addEventListener("keydown", event => {
      const moves = {ArrowLeft: "earlier", ArrowRight: "later", ArrowUp: "previous", ArrowDown: "next"};
      const move = moves[event.key];
      if (!move || ["SELECT", "INPUT"].includes(event.target.tagName) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      this.move(move);
    });
    if (this.map) this.map.on("plotly_click", event => {
      const row = event.points[0].customdata;
      if (row >= 0 && !this.map.isPlacing) this.change({station: row});
    });
  }

  move(direction) {
    const n = this.weeks.stations.length;
    if (direction === "previous") this.change({station: (this.station + n - 1) % n});
    if (direction === "next") this.change({station: (this.station + 1) % n});
    if (direction === "earlier") this.change({from: this.from - this.span});
    if (direction === "later") this.change({from: this.from + this.span});
  }

  change(state) {
    Object.assign(this, state);
    if (state.span) this.from = Math.floor(this.from / this.span) * this.span;
    this.from = Math.max(0, Math.min(this.from, this.weeks.hours - this.span));
    this.draw();
  }

  draw() {
    const to = this.from + this.span;
    const kinds = [...Array(this.weeks.kinds).keys()];
    const series = kinds.map(kind => this.values(kind, this.station, this.from, to));
    this.setControls();
    Plotly.react(this.part.chart, this.curves(...series), this.layout(), plainChart);
    this.part.words.textContent = this.sentence(...series);
    this.markOnMap();
  }

  // First hours that lists and slider offer.
  starts() {
    const {weeks, span, from} = this;
    const starts = [];
    for (let hour = 0; hour < weeks.hours; hour += span) starts.push(Math.min(hour, weeks.hours - span));
    if (!starts.includes(from)) starts.push(from);
    return starts.sort((a, b) => a - b);
  }

  setControls() {
    const {weeks, span, from, part, root} = this;
    const starts = this.starts();
    part.from.replaceChildren(...starts.map(hour => new Option(dateText(timeOf(weeks, hour)), hour)));
    part.from.value = from;
    part.slider.max = starts.length - 1;
    part.slider.value = starts.indexOf(from);
    part.slider.disabled = starts.length < 2;
    part.slider.setAttribute("aria-valuetext", dateText(timeOf(weeks, from)));
    part.station.value = this.station;
    part.span.value = span;
    root.querySelector("[data-move=earlier]").disabled = from <= 0;
    root.querySelector("[data-move=later]").disabled = from + span >= weeks.hours;
  }

  curves(real, p10, p25, p50, p75, p90) {
    const measured = {
      ...this.line("real", real, {color: BLACK, width: 1.5}), mode: "lines+markers", marker: {size: 3.5},
    };
    return [...this.bands(p10, p25, p50, p75, p90), measured];
  }

  x() {
    return Array.from({length: this.span}, (_, i) => isoMinute(timeOf(this.weeks, this.from + i)));
  }

  line(name, y, line) {
    return {x: this.x(), y, name, mode: "lines", line, hovertemplate: name + " %{y:.4g}<extra></extra>"};
  }

  band(name, low, high, fillcolor) {
    const edge = {x: this.x(), mode: "lines", line: {width: 0}, hoverinfo: "skip"};
    return [{...edge, y: high, showlegend: false}, {...edge, y: low, name, fill: "tonexty", fillcolor}];
  }

  bands(p10, p25, p50, p75, p90) {
    return [
      ...this.band("80 % band", p10, p90, BLUE + "26"), ...this.band("50 % band", p25, p75, BLUE + "4d"),
      this.line("median", p50, {color: BLUE, width: 2}),
    ];
  }

  layout() {
    const {weeks, from, span, part} = this;
    const layout = structuredClone(this.frame);
    const showsDays = span > 48, wide = part.chart.clientWidth > 520;
    layout.hovermode = "x";
    layout.legend.entrywidth = 64;
    layout.yaxis.title.text = this.unit;
    layout.yaxis.rangemode = "tozero";
    layout.xaxis.type = "date";
    layout.xaxis.range = [isoMinute(timeOf(weeks, from)), isoMinute(timeOf(weeks, from + span))];
    layout.xaxis.tick0 = layout.xaxis.range[0];
    layout.xaxis.tickformat = showsDays ? "%a<br>%-d %b" : "%H:%M";
    layout.xaxis.dtick = (showsDays ? 24 : 6) * (wide ? 1 : 2) * HOUR;
    layout.xaxis.tickangle = 0;
    return layout;
  }

  // Counts the measured hours inside each band; screen readers read the sentence aloud.
  sentence(real, p10, p25, p50, p75, p90) {
    const {weeks, from, span} = this;
    const inside = (low, high) =>
      real.filter((v, i) => v !== null && low[i] !== null && v >= low[i] && v <= high[i]).length;
    const measured = real.filter((v, i) => v !== null && p50[i] !== null).length;
    const missing = span - measured;
    const last = span > 24 ? " to " + dateText(timeOf(weeks, from + span - 1)) : "";
    const place = `Station ${weeks.stations[this.station]}, ${dateText(timeOf(weeks, from))}${last}: `;
    if (!measured) return place + "no hour was measured.";
    const hours = measured === 1 ? "1 measured hour" : `${measured} measured hours`;
    const gaps = missing === 0 ? "" : missing === 1 ? "; 1 hour is missing" : `; ${missing} hours are missing`;
    const counts = `the 80 % band holds ${inside(p10, p90)}, the 50 % band ${inside(p25, p75)}`;
    return `${place}of ${hours} ${counts}${gaps}.`;
  }

  markOnMap() {
    if (!this.map) return;
    const dots = this.map.data[1], place = dots.customdata.indexOf(this.station);
    Plotly.restyle(this.map, {x: [[dots.x[place]]], y: [[dots.y[place]]]}, [2]);
  }
}
