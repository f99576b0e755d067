// The report of a study: draws the figures, and lets trials be searched, sorted and selected.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const chosen = new Set();
  const by = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const PICKS = ["#e83e8c", "#00a6c7", "#b8860b", "#6f42c1", "#2f9e44", "#e8590c"];
  const isNarrow = () => window.innerWidth < 640;

  // ---------------------------------------------------------------- figures

  const merged = (one, two) => {
    const made = { ...one };
    for (const [key, value] of Object.entries(two)) {
      const isPlain = value && typeof value === "object" && !Array.isArray(value);
      made[key] = isPlain ? merged(made[key] ?? {}, value) : value;
    }
    return made;
  };

  const layoutOf = (figure) => {
    const ink = css("ink"), line = css("line");
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true, title: { standoff: 8 } };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: 380, hovermode: "closest",
      font: { color: ink, family: "system-ui, sans-serif", size: 13 }, margin: { l: 55, r: 15, t: 34, b: 45 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("faint"), activecolor: css("accent") },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, dragmode: isNarrow() ? false : "zoom",
      hoverlabel: { bgcolor: css("panel"), bordercolor: line, font: { color: ink } },
    };
    const made = merged(base, figure.layout);
    if (made.coloraxis?.colorscale === "heat") {
      made.coloraxis.colorscale = [[0, css("back")], [0.02, css("line")], [0.3, "#3a86c8"], [1, "#e4a11b"]];
    }
    for (const key of Object.keys(made)) if (/^[xy]axis\d*$/.test(key)) made[key] = merged(axis, made[key]);
    made.xaxis ??= axis;
    made.yaxis ??= axis;
    made.shapes = made.shapes?.map((shape) => merged(shape, { line: { color: line } }));
    made.annotations = made.annotations?.map((one) => ({ ...one, bgcolor: css("back"), opacity: 0.85 }));
    return made;
  };

  // The trials that are selected, as further traces of a figure.
  const picked = (figure) => [...chosen].slice(0, PICKS.length).flatMap((number, at) => {
    const color = PICKS[at];
    const marks = { x: [], y: [] }, lines = { x: [], y: [] };
    for (const trace of figure.data) {
      if (trace.type !== "scatter") continue;
      const span = trace.meta?.spans?.find((one) => one[0] === number);
      if (span && !lines.x.length) {
        lines.x = trace.x.slice(span[1], span[2]);
        lines.y = trace.y.slice(span[1], span[2]);
      }
      (trace.customdata ?? []).forEach((one, i) => {
        if (one === number) { marks.x.push(trace.x[i]); marks.y.push(trace.y[i]); }
      });
    }
    const common = { type: "scatter", name: `trial ${number}`, hoverinfo: "skip", legendgroup: "picked" };
    return [
      ...(lines.x.length ? [{ ...common, ...lines, mode: "lines+markers", line: { color, width: 3 }, marker: { size: 5 } }] : []),
      ...(marks.x.length ? [{ ...common, ...marks, mode: "markers",
        marker: { color: "rgba(0,0,0,0)", size: 15, line: { color, width: 3 } } }] : []),
    ];
  });

  const themed = (trace) => !trace.marker?.line ? trace
    : { ...trace, marker: { ...trace.marker, line: { ...trace.marker.line, color: css("back") } } };

  const draw = (name) => {
    const figure = page.figures[name], place = by(`plot-${name}`);
    const layout = layoutOf(figure);
    place.style.minWidth = layout.minwidth ? `${layout.minwidth}px` : "";
    delete layout.minwidth;
    place.removeAttribute("data-drawn");
    return Plotly.react(place, [...figure.data.map(themed), ...picked(figure)], layout, {
      responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      displayModeBar: isNarrow() ? false : "hover", toImageButtonOptions: { format: "svg", filename: `${page.study}-${name}` },
    }).then(() => place.setAttribute("data-drawn", "yes"));
  };

  // A figure is drawn when it comes near, and again when it comes near after something has changed: of a large study
  // all of them take seconds.
  const near = new Set(), fresh = new Set();
  const refresh = () => {
    for (const name of near) if (!fresh.has(name)) { fresh.add(name); draw(name); }
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const name = entry.target.id.slice(5);
      if (entry.isIntersecting) near.add(name); else near.delete(name);
    }
    refresh();
  }, { rootMargin: "400px" });
  const again = () => {
    for (const name of fresh) by(`plot-${name}`).removeAttribute("data-drawn");
    fresh.clear();
    refresh();
  };

  // A trial that is clicked in a figure is selected, and shown in the table.
  const listen = (place) => new MutationObserver((_, self) => {
    if (!place.on) return;
    self.disconnect();
    place.on("plotly_click", (event) => {
      const number = event.points[0]?.customdata;
      if (Number.isInteger(number)) choose(number, !chosen.has(number));
    });
  }).observe(place, { childList: true });

  // ---------------------------------------------------------------- the table of trials

  const columns = page.columns;
  let sorted = { column: 0, isDown: false }, room = 100;
  const cell = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const compare = (one, two) => {
    if (one === two) return 0;
    if (one === null || one === undefined) return 1;
    if (two === null || two === undefined) return -1;
    if (typeof one === "number" && typeof two === "number") return one - two;
    return String(one).localeCompare(String(two), undefined, { numeric: true });
  };
  const digits = (value) => Math.abs(value) < 1e-3
    ? value.toExponential(3).replace(/\.?0*e/, "e") : String(Number(value.toPrecision(5)));
  const shown = (value) => value === null || value === undefined ? "–" : typeof value === "number"
    ? (Number.isInteger(value) ? String(value) : digits(value)) : String(value);
  const texts = page.rows.map((row) => row.map(shown).join("\u0000").toLowerCase());

  const found = () => {
    const words = by("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = by("state").value;
    const rows = page.rows.filter((row, at) => (!state || row[1] === state) && words.every((word) => texts[at].includes(word)));
    const { column, isDown } = sorted;
    return rows.sort((one, two) => {
      const isLast = [one, two].map((row) => row[column] === null || row[column] === undefined);
      const order = compare(one[column], two[column]);
      return isLast[0] || isLast[1] ? order : isDown ? -order : order;
    });
  };

  const fill = () => {
    const rows = found(), body = by("rows");
    body.replaceChildren(...rows.slice(0, room).map((row) => {
      const line = document.createElement("tr");
      line.className = chosen.has(row[0]) ? "chosen" : "";
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = chosen.has(row[0]);
      box.setAttribute("aria-label", `Select trial ${row[0]}`);
      box.addEventListener("change", () => choose(row[0], box.checked));
      const first = cell("td");
      first.append(box);
      line.append(first, ...row.map((value, at) => cell(at ? "td" : "th",
        shown(value), at === 1 ? `state ${value}` : typeof value === "number" ? "number" : at === columns.length - 1 ? "long" : "")));
      line.children[1].scope = "row";
      return line;
    }));
    by("found").textContent = `${rows.length} of ${page.rows.length} trials` +
      (rows.length > room ? `, the first ${room} are shown` : "");
    by("more").hidden = rows.length <= room;
    for (const head of document.querySelectorAll("#trials-table thead th[data-column]")) {
      const isMine = Number(head.dataset.column) === sorted.column;
      head.setAttribute("aria-sort", !isMine ? "none" : sorted.isDown ? "descending" : "ascending");
      head.querySelector("span").textContent = !isMine ? "" : sorted.isDown ? " ↓" : " ↑";
    }
  };

  const heads = () => by("heads").append(cell("th", "select"), ...columns.map((name, at) => {
    const head = cell("th"), button = cell("button", name);
    head.scope = "col";
    head.dataset.column = at;
    button.append(cell("span"));
    button.addEventListener("click", () => {
      sorted = { column: at, isDown: sorted.column === at && !sorted.isDown };
      fill();
    });
    head.append(button);
    return head;
  }));

  const details = () => {
    const numbers = [...chosen];
    by("clear").hidden = !numbers.length;
    by("selected").hidden = !numbers.length;
    const rows = new Map(page.rows.map((row) => [row[0], row]));
    const table = by("selected-table");
    const line = (head, tag, values) => {
      const made = cell("tr"), first = cell("th", head);
      first.scope = "row";
      made.append(first, ...values.map((one) => cell(tag, one)));
      return made;
    };
    table.replaceChildren(...columns.map((name, at) =>
      line(name, at ? "td" : "th", numbers.map((one) => shown(rows.get(one)[at])))));
  };

  const choose = (number, isChosen) => {
    if (isChosen) chosen.add(number); else chosen.delete(number);
    fill(); details(); again();
    by("said").textContent = `Trial ${number} ${isChosen ? "selected" : "no longer selected"}, ${chosen.size} in all.`;
    if (isChosen && by("snapshot-trial")?.querySelector(`option[value="${number}"]`)) {
      by("snapshot-trial").value = number;
      weights();
    }
  };

  // ---------------------------------------------------------------- snapshots of the parameters

  const weights = () => {
    if (!by("snapshot-trial")) return;
    const trial = by("snapshot-trial").value;
    for (const one of document.querySelectorAll("[data-snapshots]")) {
      one.hidden = one.dataset.snapshots !== trial;
    }
    const tensor = by(`tensor-${trial}`);
    for (const one of document.querySelectorAll("[data-tensor]")) {
      one.hidden = one.dataset.tensor !== `${trial}-${tensor?.value}`;
    }
  };

  // ---------------------------------------------------------------- light and dark

  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const tell = () => { by("theme").textContent = isDark() ? "Light" : "Dark"; };
  by("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    tell(); again();
  });
  system.addEventListener("change", () => { tell(); again(); });

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const block = by(button.dataset.copy);
      getSelection().selectAllChildren(block);
      try { await navigator.clipboard.writeText(block.textContent); } catch { document.execCommand("copy"); }
      by("said").textContent = "Copied.";
      button.textContent = "Copied";
    });
  }

  by("find").addEventListener("input", () => { room = 100; fill(); });
  by("state").addEventListener("change", () => { room = 100; fill(); });
  by("more").addEventListener("click", () => { room += 400; fill(); });
  by("clear").addEventListener("click", () => { chosen.clear(); fill(); details(); again(); });
  for (const link of document.querySelectorAll("[data-choose]")) {
    link.addEventListener("click", () => choose(Number(link.dataset.choose), true));
  }
  by("snapshot-trial")?.addEventListener("change", weights);
  for (const one of document.querySelectorAll("[data-tensors]")) one.addEventListener("change", weights);
  heads(); fill(); details(); tell(); weights();
  for (const name of Object.keys(page.figures)) { listen(by(`plot-${name}`)); watcher.observe(by(`plot-${name}`)); }
  addEventListener("beforeprint", () => { for (const name of Object.keys(page.figures)) draw(name); });
  document.documentElement.dataset.ready = "yes";
})();
