"use strict";

const runs = JSON.parse(document.getElementById("runs").textContent);

// A hidden figure has no width, so a run is drawn when it is first shown.
const sections = [...document.querySelectorAll("section.run")];

function show(number) {
  sections.forEach((section, i) => { section.hidden = i !== number; });
  const section = sections[number], run = runs.views[number];
  if (section.drawn) return;
  section.drawn = true;
  section.querySelectorAll("[data-figure]").forEach(node => {
    const figure = run.figures[node.dataset.figure];
    Plotly.newPlot(node, figure.data, figure.layout, node.dataset.figure === "map" ? mapChart : plainChart);
  });
  const map = section.querySelector("[data-figure=map]");
  section.browser = new WeekBrowser(section.querySelector(".browser"), run.weeks, run.unit, runs.frame, map);
  if (run.scenarios) offerScenarios(section.querySelector(".what-if"), run.scenarios);
}

// Buttons of situations that were generated beforehand (see read_situations).
function offerScenarios(root, scenarios) {
  const buttons = [...root.querySelectorAll("[data-scenario]")];
  const map = new SituationMap(root, runs.frame, scenarios[0]);
  const choose = number => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === number));
    map.show(scenarios[number]);
    root.querySelector("[data-part=summary]").textContent = scenarios[number].summary;
  };
  buttons.forEach((button, i) => { button.onclick = () => choose(i); });
  choose(0);
}

// Boxes that scroll show a shadow at the side where more can be seen.
function markScroll(box) {
  const rest = box.scrollWidth - box.clientWidth - box.scrollLeft;
  box.classList.toggle("more-left", box.scrollLeft > 1);
  box.classList.toggle("more-right", rest > 1);
}

document.querySelectorAll(".scroll").forEach(box => {
  box.addEventListener("scroll", () => markScroll(box), {passive: true});
  new ResizeObserver(() => markScroll(box)).observe(box);
});

const chooser = document.getElementById("chooser");
if (chooser) chooser.onchange = () => show(Number(chooser.value));
show(chooser ? Number(chooser.value) : 0);
