/* A button that copies a field. */
import { say } from "./words.js";

for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  field.addEventListener("focus", () => field.select());
  if (!navigator.clipboard) continue; // over plain HTTP there is none
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(field.value);
    say(document.getElementById("copied"), "Скопировано", "Copied");
  });
}
