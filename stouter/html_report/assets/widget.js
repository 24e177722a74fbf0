// The explorer in a notebook: buttons send a change to Python, which answers with another situation.
class Explorer {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.part = {};
    root.querySelectorAll("[data-part]").forEach(node => { this.part[node.dataset.part] = node; });
    this.map = new SituationMap(root, model.get("frame"), model.get("shown"), () => this.setButtons());
    this.chooseMiddle();
    this.listen();
    this.draw();
  }

  listen() {
    const {part, model} = this;
    part.putOnMap.onclick = () => this.setPlacing(!this.map.node.isPlacing);
    part.put.onclick = () => this.put(part.lon.valueAsNumber, part.lat.valueAsNumber);
    part.power.onclick = () => this.ask({action: "switch", station: this.map.station});
    part.holiday.onclick = () => this.ask({action: "holiday", day: part.day.value});
    part.day.onchange = () => this.setButtons();
    part.reset.onclick = () => this.ask({action: "reset"});
    // Plotly answers clicks on stations only, and covers the page while a button of the mouse is down.
    this.map.node.addEventListener("pointerdown", event => this.clickMap(event), true);
    this.root.addEventListener("keydown", event => { if (event.key === "Escape") this.setPlacing(false); });
    this.redraw = () => this.draw();
    this.answer = message => this.receive(message);
    model.on("change:shown", this.redraw);
    model.on("msg:custom", this.answer);
  }

  remove() {
    this.model.off("change:shown", this.redraw);
    this.model.off("msg:custom", this.answer);
    Plotly.purge(this.map.node);
  }

  setPlacing(isPlacing) {
    this.map.node.isPlacing = isPlacing;
    this.map.node.classList.toggle("placing", isPlacing);
    this.part.putOnMap.setAttribute("aria-pressed", isPlacing);
  }

  chooseMiddle() {
    const {lon, lat} = this.map.situation.centre;
    this.part.lon.value = lon.toFixed(5);
    this.part.lat.value = lat.toFixed(5);
  }

  clickMap(event) {
    const node = this.map.node, {xaxis, yaxis} = node._fullLayout, box = node.getBoundingClientRect();
    if (!node.isPlacing || event.target.closest(".modebar")) return;
    const east = xaxis.p2d(event.clientX - box.x - xaxis._offset);
    const north = yaxis.p2d(event.clientY - box.y - yaxis._offset);
    const isInside = (value, axis) => value >= Math.min(...axis.range) && value <= Math.max(...axis.range);
    if (!isInside(east, xaxis) || !isInside(north, yaxis)) return;
    const {lon, lat} = this.map.situation.centre;
    this.part.lat.value = (lat + north / KM_PER_DEGREE).toFixed(5);
    this.part.lon.value = (lon + east / KM_PER_DEGREE / Math.cos(lat * Math.PI / 180)).toFixed(5);
    this.part.put.click();
  }

  put(lon, lat) {
    if (Number.isFinite(lon) && Number.isFinite(lat)) this.ask({action: "put", lon, lat});
    else this.say("Give longitude and latitude as numbers, in degrees.");
  }

  ask(change) {
    this.setBusy(true);
    this.part.summary.textContent = "Computing ...";
    this.say("");
    this.model.send(change);
  }

  receive(message) {
    if (message.progress !== undefined) {
      this.part.summary.textContent = `Generating: ${Math.round(100 * message.progress)} %`;
      return;
    }
    this.setBusy(false);
    this.setPlacing(false);
    this.draw(message.station);
    this.say(message.error || "");
  }

  say(text) {
    this.part.status.textContent = text;
    this.part.status.hidden = !text;
  }

  setBusy(isBusy) {
    this.isBusy = isBusy;
    this.setButtons();
  }

  draw(station) {
    const situation = this.model.get("shown");
    this.map.show(situation, station);
    const day = this.part.day.value;
    this.part.day.replaceChildren(...situation.days.map(({day, name}) => new Option(name, day)));
    if (day) this.part.day.value = day;
    this.part.summary.textContent = `Now: ${situation.changes}. ${situation.summary}`;
    this.part.cautions.textContent = situation.cautions.map(text => `Caution: ${text}.`).join(" ");
    this.part.reason.textContent = situation.noHolidays;
    this.part.reason.hidden = !situation.noHolidays;
    this.setButtons();
  }

  setButtons() {
    const {part, isBusy} = this, situation = this.model.get("shown"), row = this.map.browser.station;
    const state = situation.states[row], day = situation.days.find(day => day.day === part.day.value);
    const words = {on: "Switch this one off", off: "Switch this one on", new: "Remove this one"};
    part.power.textContent = words[state];
    part.holiday.textContent = day && day.isHoliday ? "Make it an ordinary day" : "Make it a holiday";
    for (const name of ["putOnMap", "put", "power", "reset"]) part[name].disabled = isBusy;
    part.holiday.disabled = part.day.disabled = isBusy || situation.noHolidays !== "";
  }
}

function render({model, el}) {
  el.classList.add("stouter-explorer");
  el.replaceChildren(document.createRange().createContextualFragment(model.get("html")));
  // Keys belong to what has the focus; JupyterLab looks for this mark from there upwards.
  el.querySelectorAll("select, input, button, [tabindex]").forEach(node => {
    node.dataset.lmSuppressShortcuts = "true";
  });
  let explorer = null;
  // Figures need a width, which the output has once it is in the page.
  const watcher = new ResizeObserver(() => {
    if (el.clientWidth && !explorer) explorer = new Explorer(model, el);
  });
  watcher.observe(el);
  return () => {
    watcher.disconnect();
    if (explorer) explorer.remove();
  };
}

export default {render};
