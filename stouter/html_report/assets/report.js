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
