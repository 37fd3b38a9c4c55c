(() => {
  const source = document.getElementById("classes");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const root = document.getElementById("chooser");
  const make = (tag, className, words) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (words !== undefined) element.textContent = words;
    return element;
  };
  const choose = (start) => {
    const select = make("select");
    data.columns.forEach((column, place) => select.add(new Option(column.name, place)));
    select.value = start;
    select.addEventListener("change", draw);
    return select;
  };
  const one = choose(data.start[0]);
  const other = choose(data.start[1]);
  const line = make("p");
  line.append(one, " less ", other);
  const words = make("p", "caption");
  const bars = make("div", "bars");
  root.append(line, words, bars);
  const points = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(1);

  const mean = (column, seeds, k) => {
    const rows = column.shares.filter((_, place) => seeds.includes(column.seeds[place]));
    return rows[0][k] === null ? null : rows.reduce((sum, row) => sum + row[k], 0) / rows.length;
  };

  function draw() {
    const [first, second] = [data.columns[one.value], data.columns[other.value]];
    const shared = first.seeds.filter((seed) => second.seeds.includes(seed));
    const [a, b] = [first, second].map((column) =>
      data.classes.map((_, k) => mean(column, shared.length ? shared : column.seeds, k))
    );
    const rows = data.classes
      .map((name, k) => ({ name, k, gain: a[k] === null ? null : 100 * (a[k] - b[k]) }))
      .filter((row) => row.gain !== null)
      .sort((x, y) => y.gain - x.gain);
    const widest = Math.max(1, ...rows.map((row) => Math.abs(row.gain)));
    const named = (row) => {
      const others = rows.filter((each) => Math.abs(each.gain - row.gain) < 1e-4).length - 1;
      return `${row.name}${others ? ` (and ${others} more)` : ""}, ${points(row.gain)}`;
    };
    const [most, least] = [rows[0], rows[rows.length - 1]];
    const over = shared.length
      ? `${shared.length > 1 ? "mean over seeds" : "seed"} ${shared.join(", ")}`
      : "mean over the seeds of each, none in common";
    words.textContent =
      `Points of top-1, ${over}. ` +
      (most.gain - least.gain < 1e-4
        ? `All classes the same: ${points(most.gain)}.`
        : `Most: ${named(most)}; least: ${named(least)}.`);
    bars.replaceChildren(
      ...rows.map((row) => {
        const bar = make("div", "bar");
        const track = make("div", "track");
        const fill = make("div", row.gain < 0 ? "fill down" : "fill up");
        const width = (50 * Math.abs(row.gain)) / widest;
        fill.style.width = `${width}%`;
        fill.style.left = `${row.gain < 0 ? 50 - width : 50}%`;
        track.append(fill);
        const label = make("div", "label", row.name);
        label.title = `${row.name}, ${data.counts[row.k]} videos`;
        const value = `${points(row.gain)}  (${(100 * b[row.k]).toFixed(0)} \u2192 ${(100 * a[row.k]).toFixed(0)} %)`;
        bar.append(label, track, make("div", "value", value));
        return bar;
      })
    );
  }
  draw();

  let folded = []; // on paper nothing unfolds
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => (each.open = true));
  });
  addEventListener("afterprint", () => folded.forEach((each) => (each.open = false)));
})();
