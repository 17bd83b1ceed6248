"use strict";
// Without this script the page shows everything; with it the table sorts and filters, and marks explain themselves.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);

function theme() {
  const root = document.documentElement, button = byId("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("finetune-theme"); } catch { return null; } };
  const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const say = () => { button.textContent = now() === "dark" ? "Light theme" : "Dark theme"; };
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
  button.addEventListener("click", () => {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    try { localStorage.setItem("finetune-theme", root.dataset.theme); } catch { /* a page opened from a file may keep nothing */ }
    say();
  });
  dark.addEventListener("change", say);
  say();
  button.hidden = false;
}

// A cell's number, or its words in small letters; what has neither sorts last, whatever the direction.
function sortKey(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const words = cell.textContent.trim().toLowerCase();
  return cell.classList.contains("number") || words === "–" || words === "" ? null : words;
}

function compare(one, other) {
  return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true });
}

function sorting(table, done) {
  const headings = all("thead th", table), body = table.tBodies[0];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button-like";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const was = heading.getAttribute("aria-sort");
      const direction = was ? (was === "ascending" ? -1 : 1) : heading.classList.contains("number") && column === 1 ? -1 : 1;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const keyed = all("tr", body).map((row) => [sortKey(row, column), row]);
      const known = keyed.filter(([key]) => key !== null).sort(([a], [b]) => direction * compare(a, b));
      body.append(...[...known, ...keyed.filter(([key]) => key === null)].map(([, row]) => row));
      done();
    });
  });
}

// Shows the rows that fit, at most so many until asked for the rest; returns a function that does so once more.
function cutting(table) {
  const rows = () => all("tbody tr", table), more = table.parentNode.nextElementSibling, atFirst = Number(table.dataset.shown);
  let showAll = rows().length <= atFirst, fitting = () => true;
  function apply() {
    let found = 0;
    for (const row of rows()) {
      const fits = fitting(row);
      if (fits) found += 1;
      const cut = fits && !showAll && found > atFirst;
      row.hidden = !fits || cut;
      row.classList.toggle("cut", cut);
    }
    more.hidden = showAll || found <= atFirst;
    more.textContent = `Show all ${found} ${table.dataset.what}`;
    return found;
  }
  more.addEventListener("click", () => { showAll = true; apply(); });
  return (fits) => { fitting = fits; return apply(); };
}

// What a row says of itself, without the name of the one that dominates it.
function ownWords(row) {
  return row.textContent.replace(row.querySelector(".by")?.textContent ?? "", "").toLowerCase();
}

function filtering(table, groups) {
  const rows = all("tbody tr", table), groupRows = groups ? all("tbody tr", groups) : [];
  const text = byId("filter"), set = byId("set"), front = byId("front-only");
  const words = new Map(rows.map((row) => [row, `${ownWords(row)} ${row.dataset.tags.toLowerCase()}`]));
  for (const group of groupRows) {  // a run is also found by the words of its group
    const members = new Set(group.dataset.members.split(" ")), own = ownWords(group);
    for (const row of rows) if (members.has(row.dataset.run)) words.set(row, `${words.get(row)} ${own}`);
  }
  const cutRuns = cutting(table), cutGroups = groups && cutting(groups);
  const told = (found, total, what) => (found === total ? `${total} ${what}` : `${found} of ${total} ${what}`);
  function apply() {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const inside = new Set(rows.filter((row) => wanted.every((word) => words.get(row).includes(word)) && (!set || !set.value || row.dataset.set === set.value)
      && (!front.checked || ["front", "undecided"].includes(row.dataset.kind))).map((row) => row.dataset.run));
    const groupFits = (row) => row.dataset.members.split(" ").some((run) => inside.has(run));
    const counts = cutGroups ? [told(cutGroups(groupFits), groupRows.length, "groups")] : [];
    counts.push(told(cutRuns((row) => inside.has(row.dataset.run)), rows.length, "runs"));
    byId("count").textContent = counts.join(", ");
    for (const group of groupRows) if (groupFits(group)) inside.add(group.id);
    all(".chart [data-run]").forEach((mark) => mark.classList.toggle("off", !inside.has(mark.dataset.run)));
    const seen = new Set(rows.filter((row) => !row.hidden).map((row) => row.dataset.run));
    all("#runs > details").forEach((details) => { details.hidden = !seen.has(details.id) && !details.open; });
  }
  text.addEventListener("input", apply);
  for (const control of [set, front]) control?.addEventListener("change", apply);
  table.parentNode.nextElementSibling.addEventListener("click", apply);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").hidden = false;
  apply();
  return apply;
}

function tips() {
  const tip = byId("tip");
  function show(target, x, y) {
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18}px`;
  }
  for (const title of all(".chart title, .bar title")) {
    const target = title.parentNode;
    target.dataset.tip = title.textContent;
    if (target.matches("a, [role=img]")) target.setAttribute("aria-label", title.textContent);
    title.remove();
    target.addEventListener("mousemove", (event) => show(target, event.clientX, event.clientY));
    target.addEventListener("mouseleave", () => { tip.hidden = true; });
    if (!target.matches("a")) continue;  // Chromium stops at every part of a drawing that listens for the focus
    target.addEventListener("focus", () => { const box = target.getBoundingClientRect(); show(target, box.left + box.width / 2, box.top + box.height / 2); });
    target.addEventListener("blur", () => { tip.hidden = true; });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
}

function details() {
  const open = () => {
    const target = location.hash && byId(location.hash.slice(1));
    if (target && target.matches("details")) { target.hidden = false; target.open = true; target.scrollIntoView(); target.querySelector("summary").focus({ preventScroll: true }); }
  };
  addEventListener("hashchange", open);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.getAttribute("href") === location.hash) open();
  });
  open();
}

// What is folded away is printed too.
function printing() {
  let opened = [];
  addEventListener("beforeprint", () => { opened = all("details:not([open])"); for (const one of opened) one.open = true; });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
}

theme();
const apply = byId("controls") ? filtering(byId("runs-table"), byId("groups-table")) : () => {};
all("table.rows").forEach((table) => sorting(table, apply));
tips();
details();
printing();
