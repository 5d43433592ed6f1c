// Times in the reader's zone, keys, the theme, and the position that a change has reached.
"use strict";

(() => {
  const each = (selector, act, root = document) => root.querySelectorAll(selector).forEach(act);
  const short = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  function said(moment) {
    const seconds = (moment - Date.now()) / 1000;
    const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS[3];
    return Math.abs(seconds) < 7 * 86400 ? relative.format(Math.round(seconds / size), unit) : short.format(moment);
  }

  function times(root) {
    each("time[datetime]", (time) => {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) return;
      time.textContent = time.classList.contains("exact") ? short.format(moment) : said(moment);
      time.title = `${exact.format(moment)} (${time.dateTime})`;
    }, root);
    // A drawing has no elements for times.
    each("text[data-at]", (place) => {
      const moment = new Date(place.dataset.at);
      if (Number.isNaN(moment.getTime())) return;
      const whole = document.createElementNS(place.namespaceURI, "title");
      whole.textContent = `${exact.format(moment)} (${place.dataset.at})`;
      place.replaceChildren(short.format(moment), whole);
    }, root);
  }

  // A page is read again when something of it was changed here, or elsewhere, and at least as of then: `position` is that
  // of the last change, `stale` tells that the page was asked for before it, and `read` when it was asked for.
  let position = 0, stale = false, read = Date.now(), timer = 0;
  function changed(at) {
    position = Math.max(position, at || 0);
    stale = true;
    timer ||= setTimeout(function again() {
      // News of elsewhere do not replace a field that is being filled in; what was done here has `read` at 0.
      if (read && document.activeElement.matches("main :is(input:not([type=checkbox]), textarea, select)")) {
        timer = setTimeout(again, 1000);
        return;
      }
      timer = 0;
      window.htmx.trigger("#main", "stale");
    }, Math.max(50, 1000 - (Date.now() - read)));
  }
  document.addEventListener("changed", (event) => { read = 0; changed(event.detail.position); });
  document.addEventListener("htmx:configRequest", (event) => {
    if (position) event.detail.headers["Foldwork-Position"] = String(position);
    if (event.detail.elt.id === "main") { stale = false; read = Date.now(); }
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.elt.id === "main" && stale) changed();
  });

  function follow(address) {
    const source = new EventSource(address);
    source.onmessage = (event) => changed(Number(event.lastEventId));
    source.onerror = () => {
      // A browser connects again by itself, unless the answer was a refusal.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(address), 5000);
    };
  }

  document.addEventListener("htmx:afterSwap", (event) => { times(event.target); charts(event.target); moments(event.target); });
  // What the page showed may be gone once it is read again, such as a workflow that was retired: then that is shown.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { elt, xhr } = event.detail;
    if (elt.id !== "main" || ![403, 404].includes(xhr.status)) return;
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  });
  document.addEventListener("htmx:responseError", () => say("The service answered with an error. Reload the page."));
  document.addEventListener("htmx:sendError", () => say("The service does not answer."));

  // Below what was said of an action, which stays true.
  function say(text) {
    const said = document.getElementById("said");
    if ([...said.children].some((line) => line.textContent === text)) return;
    const line = document.createElement("p");
    line.className = "refusal";
    line.textContent = text;
    said.append(line);
  }

  // A chart is a figure with its points as JSON: {"x": [seconds], "series": [{"label", "values"}]}.
  function charts(root) {
    if (!window.uPlot) return;
    each("figure[data-chart]", (figure) => {
      const { x, series } = JSON.parse(figure.dataset.chart);
      const target = figure.querySelector(".plot");
      // A canvas knows no variables, and a variable may depend on light or dark.
      const colour = (name) => {
        target.style.color = `var(${name})`;
        const found = getComputedStyle(target).color;
        target.style.color = "";
        return found;
      };
      target.replaceChildren();
      const ink = getComputedStyle(figure).color;
      new window.uPlot({
        width: target.clientWidth, height: 160, cursor: { y: false }, legend: { live: false },
        axes: [{ stroke: ink, grid: { show: false } }, { stroke: ink, size: 44, grid: { stroke: "#8884" } }],
        series: [{}, ...series.map((one, number) => ({
          label: one.label, stroke: colour(`--line-${number + 1}`), width: 2, points: { show: false },
        }))],
      }, [x, ...series.map((one) => one.values)], target);
    }, root);
  }

  // Rows: j and k move, Enter opens, x chooses.
  const rows = () => [...document.querySelectorAll("main [data-row]")];
  function move(by) {
    const all = rows();
    if (!all.length) return;
    const now = all.findIndex((row) => row.classList.contains("at"));
    all[now]?.classList.remove("at");
    const next = all[Math.min(all.length - 1, Math.max(0, now + by))];
    next.classList.add("at");
    next.scrollIntoView({ block: "nearest" });
    (next.querySelector("a") ?? next).focus({ preventScroll: true });
  }

  let gone = 0;
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "Escape" && typing) typing.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (Date.now() - gone < 1500) {
      gone = 0;
      const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); link.click(); }
      return;
    }
    const keys = {
      "/": () => document.querySelector(".find input")?.focus(),
      "?": () => document.getElementById("keys").showModal(),
      j: () => move(1),
      k: () => move(-1),
      x: () => document.querySelector("[data-row].at input[type=checkbox]")?.click(),
      g: () => { gone = Date.now(); },
    };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "theme") {
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
      const next = now === "dark" ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      try { localStorage.setItem("theme", next); } catch { /* it lasts as long as the page */ }
      charts(document);
    } else if (button.id === "help") {
      document.getElementById("keys").showModal();
    } else if (button.classList.contains("open-menu")) {
      const open = document.getElementById("menu").classList.toggle("open");
      button.setAttribute("aria-expanded", String(open));
    } else if ("dismiss" in button.dataset) {
      document.getElementById("said").replaceChildren();
    }
  });

  // A time of the reader's zone goes to the service as one of UTC, in the field that it names, or else the hidden one.
  const utc = (field) => field.dataset.moment ? field.form.elements[field.dataset.moment] : field.form.querySelector("input[type=hidden]");
  function moments(root) {
    each("input[data-moment]", (field) => {
      const moment = new Date(utc(field).value);
      if (!field.dataset.moment || field.value || Number.isNaN(moment.getTime())) return;
      moment.setMinutes(moment.getMinutes() - moment.getTimezoneOffset());
      field.value = moment.toISOString().slice(0, 16);
    }, root);
  }
  document.addEventListener("submit", (event) => {
    each("input[data-moment]", (field) => {
      if (field.value) utc(field).value = new Date(field.value).toISOString();
      else if (field.dataset.moment) utc(field).value = "";
      else { event.preventDefault(); field.focus(); }
    }, event.target);
  });

  // All rows of a table at once.
  document.addEventListener("change", (event) => {
    if (event.target.matches("input[data-all]")) {
      each("[data-row] input[type=checkbox]", (box) => { box.checked = event.target.checked; }, event.target.closest("table"));
    }
    count();
  });
  const chosen = () => [...document.querySelectorAll("[data-row] input[type=checkbox]:checked")];
  function count() {
    const number = chosen().length;
    each("[data-chosen]", (place) => { place.textContent = String(number); place.closest(".bar")?.classList.toggle("on", number > 0); });
  }
  // Rows that are chosen stay so when the page is read again.
  let kept = new Set();
  document.addEventListener("htmx:beforeSwap", () => { kept = new Set(chosen().map((box) => box.value)); });
  document.addEventListener("htmx:afterSwap", () => {
    each("[data-row] input[type=checkbox]", (box) => { box.checked = kept.has(box.value); });
    count();
  });

  addEventListener("resize", () => charts(document));
  times(document);
  charts(document);
  moments(document);
  const live = document.querySelector("[data-live]");
  if (live) follow(live.dataset.live);
  setInterval(() => times(document), 30000);
})();
