/* Sends a ZIP: its SHA-256 first, then its bytes by tus, which go on wherever they stopped; then what was found in it. */
import "./vendor/tus-js-client/tus.min.js";
import { both, clock, say, size } from "./words.js";

const { Upload, defaultOptions } = globalThis.tus;
const ENDPOINT = "/api/v1/uploads";
const PIECE = 64 * 2 ** 20; // bytes of a request
const DELAYS = [1, 2, 5, 10, ...Array(120).fill(30)].map(seconds => 1000 * seconds);
const WINDOW = 8_000; // ms over which the speed is taken

const element = id => document.getElementById(id);

function start(form) {
  const { team, csrf, limit } = form.dataset;
  const file = element("zip"), going = element("going"), bar = element("progress"), outcome = element("outcome");
  const mark = `fbc-${team}-`; // of what is kept of this team's uploads in this browser
  let upload = null, worker = null, samples = [], quarter = 0, hasSent = false;

  function stage(ru, en) {
    say(element("stage"), ru, en);
  }

  /* Figures below the bar; at each quarter for those who do not see it, too. */
  function show(done, whole, ru = "", en = "") {
    bar.value = whole ? done / whole : 0;
    const percent = `${(100 * bar.value).toFixed(1)} %`, [doneRu, doneEn] = size(done), [wholeRu, wholeEn] = size(whole);
    say(element("figures"), `${percent} · ${doneRu} из ${wholeRu}${ru}`, `${percent} · ${doneEn} of ${wholeEn}${en}`);
  }

  function progress(sent, whole) {
    const now = performance.now();
    samples.push([now, sent]);
    samples = samples.filter(([at]) => now - at <= WINDOW);
    const [[at, first]] = samples, speed = now > at ? (1000 * (sent - first)) / (now - at) : 0;
    const [ru, en] = size(speed), left = speed > 0 ? clock((whole - sent) / speed) : "";
    show(sent, whole, speed ? ` · ${ru}/с · осталось ${left}` : "", speed ? ` · ${en}/s · ${left} left` : "");
    if (Math.floor((4 * sent) / whole) > quarter) {
      quarter = Math.floor((4 * sent) / whole);
      if (quarter < 4) say(element("said"), `Отправлено ${25 * quarter} %`, `${25 * quarter} % sent`);
    }
  }

  function busy(is) {
    const had = going.contains(document.activeElement);
    going.hidden = !is;
    element("start").hidden = is;
    file.disabled = is;
    form.toggleAttribute("data-busy", is);
    if (is) element("unfinished").hidden = true;
    if (is) element("stop").focus();
    else if (had) file.focus();
    if (is) outcome.replaceChildren();
  }

  function fail(ru, en) {
    busy(false);
    notice("bad", both(ru, en));
  }

  function notice(kind, nodes, more = []) {
    const made = document.createElement("div"), line = document.createElement("p");
    made.className = `notice ${kind}`;
    line.append(...nodes);
    made.append(line, ...more);
    outcome.replaceChildren(made);
  }

  function digest(zip) {
    return new Promise((resolve, reject) => {
      worker = new Worker(new URL("hash.js", import.meta.url), { type: "module" });
      worker.onmessage = ({ data }) => {
        if (data.done !== undefined) return show(data.done, zip.size);
        worker.terminate();
        if (data.digest) resolve(data.digest);
        else reject(new Error(data.error));
      };
      worker.onerror = event => reject(new Error(event.message));
      worker.postMessage(zip);
    });
  }

  function paused(is) {
    const button = element("pause");
    button.setAttribute("aria-pressed", String(is));
    say(button, is ? "Продолжить" : "Пауза", is ? "Go on" : "Pause");
  }

  /* What the service said, in the words that it has. */
  function reason(error) {
    try {
      return JSON.parse(error.originalResponse.getBody()).detail;
    } catch {
      return error.message;
    }
  }

  async function send(zip) {
    if (zip.size > Number(limit)) {
      const [[ru, en], [mostRu, mostEn]] = [size(zip.size), size(Number(limit))];
      return notice("bad", both(`Файл слишком велик: ${ru}, а можно ${mostRu}.`, `The file is too large: ${en}; ${mostEn} are allowed.`));
    }
    busy(true);
    paused(false);
    stage("Считается SHA-256 файла…", "Counting the file's SHA-256…");
    show(0, zip.size);
    element("pause").hidden = true;
    let sha256;
    try {
      sha256 = await digest(zip);
    } catch (error) {
      return fail(`Файл не прочитать: ${error.message}`, `The file cannot be read: ${error.message}`);
    }
    element("pause").hidden = false;
    samples = [];
    quarter = 0;
    hasSent = false;
    stage("Отправляется…", "Sending…");
    upload = new Upload(zip, {
      endpoint: ENDPOINT,
      chunkSize: PIECE,
      retryDelays: DELAYS,
      headers: { "X-CSRF-Token": csrf },
      metadata: { filename: zip.name, sha256 },
      fingerprint: async () => mark + sha256,
      removeFingerprintOnSuccess: true,
      onProgress: progress,
      onShouldRetry: error => {
        const status = error.originalResponse?.getStatus() ?? 0;
        const again = !status || status >= 500 || [423, 429].includes(status) || (status === 409 && error.originalRequest.getMethod() === "PATCH");
        if (again) stage("Связь прервалась, отправка продолжится сама…", "The line is broken; sending goes on by itself…");
        return again;
      },
      onAfterResponse: (request, response) => {
        hasSent ||= request.getMethod() === "PATCH" && response.getStatus() < 300;
        if (response.getStatus() < 400) stage("Отправляется…", "Sending…");
      },
      onError: error => {
        const status = error.originalResponse?.getStatus();
        if ([401, 403].includes(status)) {
          fail("Сеанс закончился: войдите снова и выберите тот же файл, отправка продолжится.", "The session is over: sign in again and choose the same file; sending goes on.");
        } else {
          fail(`Не отправлено: ${reason(error)}`, `Not sent: ${reason(error)}`);
        }
        listUnfinished();
      },
      onSuccess: () => check(upload.url),
    });
    const [before] = await upload.findPreviousUploads();
    if (before) upload.resumeFromPreviousUpload(before);
    upload.start();
  }

  /* Wait for what comes of a ZIP that is there, and tell it. */
  async function check(url) {
    stage("Отправлено, ZIP проверяется…", "Sent; the ZIP is checked…");
    element("pause").hidden = element("stop").hidden = true;
    bar.removeAttribute("value");
    let found = null;
    while (!found || found.state === "checking" || found.state === "receiving") {
      try {
        const answer = await fetch(url, { headers: { Accept: "application/json", Prefer: "wait=20" } });
        if (answer.ok) found = await answer.json();
        else if (answer.status < 500 && answer.status !== 429) break;
      } catch { /* the line is down */ }
      if (!found || found.state === "checking") await new Promise(resolve => setTimeout(resolve, 1000));
    }
    busy(false);
    element("stop").hidden = false;
    form.reset();
    tell(found ?? { state: "failed" });
    listUnfinished();
    document.dispatchEvent(new Event("sent"));
  }

  function tell(found) {
    const id = found.submission;
    if (found.state === "accepted" && !(found.is_new && hasSent)) {
      notice("", both(`Этот ZIP уже отправлен: решение ${id}. Попытка не потрачена.`, `This ZIP was sent before: submission ${id}. It cost no attempt.`));
    } else if (found.state === "accepted") {
      notice("good", both(`Принято: решение ${id}. ZIP в порядке и ждёт очереди.`, `Taken: submission ${id}. The ZIP is good and waits in the queue.`));
    } else if (found.state === "faulty") {
      const list = document.createElement("ul");
      list.className = "findings";
      list.lang = "en";
      for (const { rule, where, found: what, allowed, fix } of found.findings ?? []) {
        const item = document.createElement("li"), code = document.createElement("code");
        code.textContent = rule;
        item.append(code, ` ${where ? `${where}: ` : ""}${what}${allowed ? `; allowed: ${allowed}` : ""}${fix ? `; fix: ${fix}` : ""}`);
        list.append(item);
      }
      notice("bad", both(`ZIP не принят (${found.verdict}), попытка не потрачена. Что исправить:`, `The ZIP is not taken (${found.verdict}); it cost no attempt. What to mend:`), [list]);
    } else {
      const why = found.reason ?? (found.notes ?? []).join(" ");
      notice("bad", both(`Не принято. ${why}`, `Not taken. ${why}`));
    }
  }

  /* What was begun in this browser and can go on. */
  async function listUnfinished() {
    const box = element("unfinished"), kept = await defaultOptions.urlStorage.findAllUploads();
    const own = kept.filter(each => each.urlStorageKey.startsWith(`tus::${mark}`));
    box.replaceChildren(
      ...own.map(each => {
        const line = document.createElement("p"), name = document.createElement("bdi"), [ru, en] = size(each.size);
        line.className = "small";
        name.textContent = each.metadata.filename;
        line.append(...both("Не отправлено до конца: ", "Not sent to the end: "), name, ...both(`, ${ru}. Выберите этот файл снова.`, `, ${en}. Choose this file again.`));
        return line;
      }),
    );
    box.hidden = own.length === 0;
  }

  form.addEventListener("submit", event => {
    event.preventDefault();
    if (file.files.length) send(file.files[0]);
  });
  element("pause").addEventListener("click", () => {
    const is = element("pause").getAttribute("aria-pressed") !== "true";
    paused(is);
    if (is) {
      upload.abort();
      stage("Пауза", "Paused");
    } else {
      samples = [];
      stage("Отправляется…", "Sending…");
      upload.start();
    }
  });
  element("stop").addEventListener("click", async () => {
    worker?.terminate();
    if (upload) await upload.abort(true).catch(() => {}); // its time will be over
    upload = null;
    busy(false);
    say(outcome, "Отправка отменена.", "Sending was cancelled.");
    listUnfinished();
  });
  for (const kind of ["dragover", "drop"]) {
    form.addEventListener(kind, event => {
      event.preventDefault();
      if (kind === "drop" && !file.disabled && event.dataTransfer.files.length) file.files = event.dataTransfer.files;
    });
  }
  listUnfinished();
}

let bound = null;
function bind() {
  const form = element("send");
  if (form && form !== bound) start((bound = form));
}
document.addEventListener("renewed", bind);
bind();
