"use strict";
// Draws the charts, and shows when what is seen is no longer renewed. Everything else works without it.

const STALE_SECONDS = 30;
const CHART_SECONDS = 10;
// Tones that differ from the paper by 3 to 1 at least, light and dark (WCAG 1.4.11), and dashes besides colours.
const STROKES = {
  accepted: ["#57606a", "#a8b1ba", [6, 4]],
  delivered: ["#1f7a3f", "#6fcf97", []],
  bounced: ["#b3261e", "#ff8a80", []],
  failed: ["#7b2fb5", "#cf9bff", [2, 3]],
  expired: ["#8a5a00", "#e3b341", []],
  suppressed: ["#0b62b0", "#6cb6ff", []],
  cancelled: ["#00707a", "#56d4dd", [4, 3]],
  uncertain: ["#a03077", "#ff9ad5", [8, 3]],
};
const dark = matchMedia("(prefers-color-scheme: dark)");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

let plot = null;
let wanted = 0;

// Times are in UTC, as on all pages.
const clock = (seconds, from, to) => new Date(seconds * 1000).toISOString().slice(from, to);

function options(box, series, names) {
  const times = series.time;
  const isShort = times.length < 2 || times[times.length - 1] - times[0] < 600;
  const axis = { stroke: style("--soft"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line") } };
  return {
    width: box.clientWidth,
    height: 260,
    cursor: { y: false },
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 0.1)] } },
    axes: [
      { ...axis, space: 70, values: (_, marks) => marks.map((each) => clock(each, 11, isShort ? 19 : 16)) },
      { ...axis, size: 60 },
    ],
    series: [
      { label: "UTC", value: (_, at) => (at === null ? "–" : clock(at, 11, 19)) },
      ...names.map((name) => ({
        label: name,
        stroke: STROKES[name][dark.matches ? 1 : 0],
        dash: STROKES[name][2],
        width: 2,
        points: { show: series.time.length < 3 },
        value: (_, value) => (value === null ? "–" : value.toFixed(2)),
      })),
    ],
  };
}

async function draw(box) {
  const category = document.getElementById("category").value;
  const span = document.getElementById("span").value;
  const number = ++wanted;
  let series;
  try {
    const answer = await fetch(`/traffic.json?category=${category}&span=${span}`);
    if (!answer.ok) return;
    series = await answer.json();
  } catch {
    return;
  }
  if (number !== wanted) return;
  const names = Object.keys(STROKES).filter((name) => name in series);
  const shown = plot ? plot.series.map((each) => each.show) : [];
  plot?.destroy();
  box.replaceChildren();
  box.dataset.points = series.time.length;
  if (!series.time.length) {
    const note = document.createElement("p");
    note.className = "empty";
    note.textContent = "The first points come within a minute. The last day is there already.";
    box.append(note);
    plot = null;
    return;
  }
  plot = new uPlot(options(box, series, names), [series.time, ...names.map((name) => series[name])], box);
  shown.forEach((show, index) => show === false && plot.setSeries(index, { show }));
}

function stale() {
  const live = document.querySelector("[data-live]");
  const note = document.getElementById("stale");
  if (!live || !note) return;
  if (live.dataset.at !== stale.at) {
    stale.at = live.dataset.at;
    stale.since = performance.now();
  }
  note.hidden = performance.now() - stale.since < STALE_SECONDS * 1000;
}

const box = document.getElementById("chart");
if (box) {
  draw(box);
  setInterval(() => document.hidden || draw(box), CHART_SECONDS * 1000);
  for (const id of ["category", "span"]) document.getElementById(id).addEventListener("change", () => draw(box));
  dark.addEventListener("change", () => draw(box));
  new ResizeObserver(() => plot?.setSize({ width: box.clientWidth, height: 260 })).observe(box);
}
stale();
setInterval(stale, 1000);
// Forms whose answer a frame of the page shows: what they send is too long for the frame's URL.
for (const form of document.querySelectorAll("form[data-now]")) form.requestSubmit();
