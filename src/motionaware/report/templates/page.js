(() => {
  // An interactive bar chart: the per-class difference of top-1 between any two models.
  const source = document.getElementById("class-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const root = document.getElementById("class-chart");
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const makeSelect = (selected) => {
    const select = make("select");
    data.cells.forEach((cell, index) => select.add(new Option(cell.name, index)));
    select.value = selected;
    select.addEventListener("change", draw);
    return select;
  };
  const modelSelect = makeSelect(data.selected[0]);
  const referenceSelect = makeSelect(data.selected[1]);
  const controls = make("p");
  controls.append(modelSelect, " minus ", referenceSelect);
  const caption = make("p", "caption");
  const bars = make("div", "bars");
  root.append(controls, caption, bars);
  const points = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(1);

  // Mean over seeds of one class's top-1; null for a class without videos.
  const meanAccuracy = (cell, seeds, k) => {
    const rows = cell.accuracies.filter((_, index) => seeds.includes(cell.seeds[index]));
    return rows[0][k] === null ? null : rows.reduce((sum, row) => sum + row[k], 0) / rows.length;
  };

  function draw() {
    const cells = [data.cells[modelSelect.value], data.cells[referenceSelect.value]];
    const shared = cells[0].seeds.filter((seed) => cells[1].seeds.includes(seed));
    const [model, reference] = cells.map((cell) =>
      data.classes.map((_, k) => meanAccuracy(cell, shared.length ? shared : cell.seeds, k))
    );
    const rows = data.classes
      .map((name, k) => ({ name, k, gain: model[k] === null ? null : 100 * (model[k] - reference[k]) }))
      .filter((row) => row.gain !== null)
      .sort((x, y) => y.gain - x.gain);
    const widest = Math.max(1, ...rows.map((row) => Math.abs(row.gain)));
    const label = (row) => {
      const ties = rows.filter((each) => Math.abs(each.gain - row.gain) < 1e-4).length - 1;
      return `${row.name}${ties ? ` (and ${ties} more)` : ""}, ${points(row.gain)}`;
    };
    const [largest, smallest] = [rows[0], rows[rows.length - 1]];
    const seeds = shared.length
      ? `${shared.length > 1 ? "mean over seeds" : "seed"} ${shared.join(", ")}`
      : "mean over each model's seeds (no common seed)";
    caption.textContent =
      `Difference of top-1 in percentage points, ${seeds}. ` +
      (largest.gain - smallest.gain < 1e-4
        ? `All classes: ${points(largest.gain)}.`
        : `Largest: ${label(largest)}; smallest: ${label(smallest)}.`);
    bars.replaceChildren(
      ...rows.map((row) => {
        const bar = make("div", "bar");
        const track = make("div", "track");
        const fill = make("div", row.gain < 0 ? "fill down" : "fill up");
        const width = (50 * Math.abs(row.gain)) / widest;
        fill.style.width = `${width}%`;
        fill.style.left = `${row.gain < 0 ? 50 - width : 50}%`;
        track.append(fill);
        const name = make("div", "label", row.name);
        name.title = `${row.name}, ${data.counts[row.k]} videos`;
        const percent = (accuracy) => (100 * accuracy).toFixed(0);
        const change = `${percent(reference[row.k])} \u2192 ${percent(model[row.k])} %`;
        bar.append(name, track, make("div", "value", `${points(row.gain)}  (${change})`));
        return bar;
      })
    );
  }
  draw();

  let opened = []; // print the folded parts too
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((each) => (each.open = true));
  });
  addEventListener("afterprint", () => opened.forEach((each) => (each.open = false)));
})();
