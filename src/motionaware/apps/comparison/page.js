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

  function draw() {
    const [a, b] = [data.columns[one.value].shares, data.columns[other.value].shares];
    const rows = data.classes
      .map((name, k) => ({ name, k, gain: a[k] === null ? null : 100 * (a[k] - b[k]) }))
      .filter((row) => row.gain !== null)
      .sort((x, y) => y.gain - x.gain);
    const widest = Math.max(1, ...rows.map((row) => Math.abs(row.gain)));
    const [most, least] = [rows[0], rows[rows.length - 1]];
    words.textContent =
      `Points of top-1, mean over seeds. Most: ${most.name}, ${points(most.gain)}; ` +
      `least: ${least.name}, ${points(least.gain)}.`;
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
})();
