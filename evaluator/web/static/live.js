/* A page that renews itself: when the service says that it is another, it is read again, and what differs is put in
   place. What a reader has open, ticked, typed or sorted stays. Without events it is read every so often. */
import { both } from "./words.js";

const EVERY = 15_000; // ms between two looks, where there are no events
const LEAST = 2_000; // ms between two readings of the page
const main = document.getElementById("main"), said = document.getElementById("said");

/* Make `now` as `next` is. Children are found by their ids, others by their places. */
function morph(now, next) {
  if (now.dataset?.keep !== undefined || now.isEqualNode(next)) return;
  if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) return now.replaceWith(next);
  if (now.nodeType !== Node.ELEMENT_NODE) {
    now.data = next.data;
    return;
  }
  if (now.nodeName === "THEAD" || now.classList.contains("tools")) return; // the page's script has put buttons there
  for (const { name, value } of next.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  for (const { name } of [...now.attributes]) {
    if (!next.hasAttribute(name) && name !== "open") now.removeAttribute(name);
  }
  const byId = new Map([...now.children].filter(child => child.id).map(child => [child.id, child]));
  let place = now.firstChild;
  for (const wanted of [...next.childNodes]) {
    const same = wanted.id ? byId.get(wanted.id) : place && !place.id ? place : null;
    if (!same) {
      now.insertBefore(wanted, place);
      continue;
    }
    if (same !== place) now.insertBefore(same, place);
    place = same.nextSibling;
    morph(same, wanted);
  }
  while (place) {
    const after = place.nextSibling;
    if (place.dataset?.busy === undefined) place.remove();
    place = after;
  }
}

const verdicts = () => new Map([...document.querySelectorAll(".runs tr[id]")].map(row => [row.id, row.querySelector(".verdict")?.dataset.v]));

/* Tell those who do not see it which run came to another state. */
function announce(before) {
  const told = [];
  for (const row of document.querySelectorAll(".runs tr[id]")) {
    const verdict = row.querySelector(".verdict");
    if (before.get(row.id) === verdict.dataset.v) continue;
    const badge = verdict.querySelector(".badge"), id = row.querySelector(".id").dataset.v;
    const words = language => badge.querySelector(`.${language}`)?.textContent ?? badge.textContent;
    const score = row.querySelector(".score").textContent.trim(), end = score ? ` ${score}. ` : ". ";
    told.push(...both(`Решение ${id}: ${words("ru")}${end}`, `Submission ${id}: ${words("en")}${end}`));
  }
  if (told.length) said.replaceChildren(...told);
}

let reading = false, again = false;
export async function renew() {
  if (reading || document.hidden) {
    again = true;
    return;
  }
  reading = true;
  try {
    const answer = await fetch(location.pathname, { headers: { Accept: "text/html" } });
    if (answer.status === 401 || answer.status === 403) return location.reload();
    if (answer.ok) {
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      const before = verdicts();
      for (const part of ["main", "footer"]) morph(document.querySelector(part), document.adoptNode(next.querySelector(part)));
      document.dispatchEvent(new Event("renewed"));
      announce(before);
    }
  } catch { /* the line is down: the next look may do better */ }
  await new Promise(resolve => setTimeout(resolve, LEAST));
  reading = false;
  if (again) {
    again = false;
    renew();
  }
}

function watch() {
  const events = new EventSource(main.dataset.live);
  let polling = null;
  events.addEventListener("changed", event => {
    if (event.data !== main.dataset.stamp) renew();
  });
  events.addEventListener("open", () => {
    clearInterval(polling);
    polling = null;
  });
  events.addEventListener("error", () => {
    polling ??= setInterval(renew, EVERY);
    if (events.readyState === EventSource.CLOSED) setTimeout(() => { clearInterval(polling); watch(); }, 4 * EVERY);
  });
}
if (main.dataset.live) watch();
document.addEventListener("visibilitychange", () => {
  if (again && !reading) {
    again = false;
    renew();
  }
});
document.addEventListener("sent", renew);
