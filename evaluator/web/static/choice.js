/* Ticks for the private board: as many as the rules allow, and how many there are. */
import { say } from "./words.js";

function count() {
  const form = document.getElementById("choice");
  if (!form) return;
  const most = Number(form.dataset.most), boxes = [...document.querySelectorAll('[form="choice"]')];
  const ticked = boxes.filter(box => box.checked).length;
  for (const box of boxes) box.disabled = !box.checked && ticked >= most;
  form.querySelector("button").disabled = ticked === 0;
  say(document.getElementById("ticked"), `отмечено ${ticked} из ${most}`, `${ticked} of ${most} ticked`);
}
document.addEventListener("change", event => {
  if (event.target.matches('[form="choice"]')) count();
});
document.addEventListener("renewed", count);
count();
if (location.hash === "#done") document.getElementById("done")?.focus();
