"use strict";
// Tables of the report: a click on a head sorts, the bar on top filters. Without this script they are plain tables.

function sortBy(button) {
  const head = button.parentNode, column = [...head.parentNode.children].indexOf(head);
  const body = head.closest("table").tBodies[0];
  const numbers = body.rows[0]?.children[column].classList.contains("number");
  const down = head.hasAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numbers;
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = row => {
    const cell = row.children[column];
    return numbers ? parseFloat(cell.dataset.order ?? "NaN") : cell.textContent;
  };
  const compare = (a, b) => {
    const x = value(a), y = value(b);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);   // unknown: last, both ways
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
  };
  body.append(...[...body.rows].sort(compare));
}

function filterBy(task, algo, text) {
  const wanted = text.trim().toLowerCase();
  for (const section of document.querySelectorAll("[data-task]")) section.hidden = Boolean(task) && section.dataset.task !== task;
  for (const one of document.querySelectorAll("[data-algo]")) {
    const row = one.matches("tr");
    const mine = !algo || one.dataset.algo === algo || one.dataset.algo.startsWith(`${algo}+`);      // its controls too
    const fits = mine && (!row || !wanted || one.textContent.toLowerCase().includes(wanted));
    one.hidden = !fits;                                       // of an HTML element
    one.toggleAttribute("hidden", !fits);                     // of a curve, which is SVG
  }
  const rows = [...document.querySelectorAll("[data-task] tr[data-algo]")];
  const shown = rows.filter(row => !row.hidden && !row.closest("[data-task]").hidden);
  document.getElementById("count").textContent =
    task || algo || wanted ? `${shown.length} of ${rows.length} rows` : "";
}

function startFilters() {
  const form = document.getElementById("filters");
  const fields = ["task", "algo", "text"].map(name => document.getElementById(`by-${name}`));
  const offer = (select, names) => {
    for (const name of [...new Set(names)].sort()) {
      const option = document.createElement("option");
      option.value = option.textContent = name;
      select.append(option);
    }
  };
  offer(fields[0], [...document.querySelectorAll("[data-task]")].map(one => one.dataset.task));
  offer(fields[1], [...document.querySelectorAll("tr[data-algo]")].map(one => one.dataset.algo));
  const apply = () => filterBy(...fields.map(field => field.value));
  const link = () => {                                        // a filtered view has an address that can be passed on
    const said = new URLSearchParams();
    fields.forEach(field => { if (field.value) said.set(field.id.slice(3), field.value); });
    history.replaceState(null, "", said.size ? `#${said}` : location.pathname + location.search);
  };
  const given = () => {
    if (!location.hash.includes("=")) return;                 // a plain anchor
    const said = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) field.value = said.get(field.id.slice(3)) ?? "";
    apply();
  };
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", () => { apply(); link(); });
  addEventListener("hashchange", given);
  form.hidden = false;
  given();
}

for (const button of document.querySelectorAll("thead button")) button.addEventListener("click", () => sortBy(button));
startFilters();
