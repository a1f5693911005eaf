
"use strict";
/* Language: what was chosen here before, else the browser's. */
const root = document.documentElement, page = document.querySelector("title");
function speak(language) {
  root.lang = language;
  document.title = page.dataset[language];
  document.getElementById(language).checked = true;
}
let chosen = null;
try { chosen = localStorage.getItem("language"); } catch { /* storage is refused */ }
speak(["ru", "en"].includes(chosen) ? chosen : navigator.language.toLowerCase().startsWith("ru") ? "ru" : "en");
document.querySelector(".switch").addEventListener("change", event => {
  speak(event.target.value);
  try { localStorage.setItem("language", event.target.value); } catch { /* storage is refused */ }
});

/* Sorting: by data-v where a cell has it, else by its text; numbers as numbers, what is empty below. */
const collate = new Intl.Collator("ru", { numeric: true }).compare;
const key = cell => cell ? (cell.dataset.v ?? cell.textContent.trim()) : "";
const isNumber = text => text !== "" && Number.isFinite(Number(text));
function sort(table, heads, column, direction) {
  const rows = [...table.tBodies[0].rows].map(row => [key(row.cells[column]), row]);
  const sign = direction === "ascending" ? 1 : -1;
  rows.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (isNumber(a) && isNumber(b) ? Number(a) - Number(b) : collate(a, b));
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
  heads.forEach((head, i) => i === column ? head.setAttribute("aria-sort", direction) : head.removeAttribute("aria-sort"));
}
/* A deadline in the reader's own time, where that is another. */
function addLocalTimes() {
  for (const time of document.querySelectorAll("time.deadline")) {
    const there = new Date(time.dateTime), own = -there.getTimezoneOffset();
    const [, sign, hours, minutes] = /([+-])(\d\d):(\d\d)(?::\d\d)?$/.exec(time.dateTime);
    if (time.parentNode.querySelector(".local")) continue;
    if (own === Number(`${sign}1`) * (60 * Number(hours) + Number(minutes))) continue;
    const local = document.createElement("span");
    local.className = "local";
    for (const [language, word] of [["ru", "у вас"], ["en", "your time"]]) {
      const shown = document.createElement("span");
      shown.className = shown.lang = language;
      const day = new Intl.DateTimeFormat(language === "ru" ? "ru" : "en-GB", { dateStyle: "medium", timeStyle: "medium" }).format(there);
      shown.textContent = `${word}: ${day}`;
      local.append(shown);
    }
    time.parentNode.insertBefore(local, time.nextElementSibling?.classList.contains("zone") ? time.nextElementSibling.nextSibling : time.nextSibling);
  }
}

/* Search: rows whose team has the text in its name; their ranks are those of the whole board. */
const fold = text => text.normalize("NFKC").toLowerCase().replaceAll("ё", "е");
function addSearch(tools) {
  const input = tools.querySelector("input"), found = tools.querySelector(".found");
  const table = tools.nextElementSibling.querySelector("table"), rows = [...table.tBodies[0].rows];
  const names = new Map(rows.map(row => [row, fold(row.querySelector("bdi")?.textContent ?? "")]));
  input.addEventListener("input", () => {
    const query = fold(input.value.trim());
    for (const row of rows) row.hidden = query !== "" && !names.get(row).includes(query);
    table.classList.toggle("searched", query !== "");
    found.textContent = query === "" ? "" : `${rows.filter(row => !row.hidden).length} / ${[...names.values()].filter(name => name).length}`;
  });
  tools.hidden = false;
}

const sorted = new Set(); // tables that the reader has sorted
document.addEventListener("DOMContentLoaded", () => {
  addLocalTimes();
  for (const tools of document.querySelectorAll(".tools")) addSearch(tools);
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.classList.contains("plain")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort"), first = head.dataset.first ?? "ascending";
        sorted.add(table);
        sort(table, heads, column, now === null ? first : now === "ascending" ? "descending" : "ascending");
      });
    });
  }
});

/* A page that is served renews what it shows, and then says so. */
document.addEventListener("renewed", () => {
  addLocalTimes();
  for (const table of sorted) {
    const heads = [...table.tHead.rows[0].cells], column = heads.findIndex(head => head.hasAttribute("aria-sort"));
    sort(table, heads, column, heads[column].getAttribute("aria-sort"));
  }
  for (const input of document.querySelectorAll(".search input")) input.dispatchEvent(new Event("input"));
});
