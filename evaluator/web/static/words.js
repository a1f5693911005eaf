/* Texts in two languages, of which the page shows one; and amounts. */

function span(language, text) {
  const made = document.createElement("span");
  made.className = made.lang = language;
  made.textContent = text;
  return made;
}

/* A text in Russian and English, as nodes. */
export const both = (ru, en) => [span("ru", ru), span("en", en)];

/* Have an element say it. */
export const say = (element, ru, en) => element.replaceChildren(...both(ru, en));

/* Bytes, in both languages. */
export function size(bytes) {
  const [unit, ru, en] = bytes < 1e6 ? [1e3, "КБ", "KB"] : bytes < 1e9 ? [1e6, "МБ", "MB"] : [1e9, "ГБ", "GB"];
  const value = (bytes / unit).toFixed(unit === 1e9 ? 2 : 1);
  return [`${value} ${ru}`, `${value} ${en}`];
}

/* Seconds as a clock shows them. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds)), two = number => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
