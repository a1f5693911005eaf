"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const PAGE_SIZE = 20;

/* Language: what was chosen here or on the season's site before, else the browser's. */
let language = navigator.language.toLowerCase().startsWith("ru") ? "ru" : "en";
try { language = ["ru", "en"].find(known => known === localStorage.getItem("language")) ?? language; } catch { /* storage is refused */ }
const t = (english, russian) => language === "ru" ? russian : english;
const named = label => t(label, page.russian[label] ?? label);

const tasks = new Map(page.tasks.map(task => [task.number, task]));

/* Elements. Strings become text nodes, never markup: nothing in this script parses HTML. */
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return node;
}
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const percent = share => `${(100 * Math.min(1, Math.max(0, share))).toFixed(3)}%`;
const digits = (value, places = 3) => value === null || value === undefined ? "–" : value.toFixed(places).replace("-", "−");
const amount = value => Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en").replaceAll(",", " ") : Number(value.toPrecision(4)).toString();
const isHidden = number => tasks.get(number).is_hidden;
const best = Math.max(...page.tasks.map(task => task.best));  // where the axis of all tasks ends
const family = number => isHidden(number) ? "hidden" : "open";
const signs = new Map(page.labels.map((text, i) => [text, "*#†‡§"[i] ?? `(${i + 1})`]));
const signed = labels => labels.length ? el("span", { title: labels.map(named).join("; ") }, " ", labels.map(text => signs.get(text)).join(""), el("span", { class: "vh" }, ` (${labels.map(named).join("; ")})`)) : null;
const label = text => el("span", { class: "badge warn label" }, named(text));

/* Charts: widths in per cent, so that they follow the window without being drawn again. */
function whisker(interval, y) {
  if (!interval || interval[0] === interval[1]) return [];
  const [low, high] = interval.map(percent), cap = 4;
  const lines = kind => [
    svg("line", { class: kind, x1: low, x2: high, y1: y, y2: y }),
    ...[low, high].map(x => svg("line", { class: kind, x1: x, x2: x, y1: y - cap, y2: y + cap })),
  ];
  return [lines("whisker-halo"), svg("g", { class: "interval-mark" }, lines("whisker"))];
}
const mark = (kind, value, top, bottom) => value === null || value === undefined ? null
  : svg("line", { class: kind, x1: percent(value), x2: percent(value), y1: top, y2: bottom });
const ticks = [0, .25, .5, .75, 1];
const gridLines = height => ticks.map(tick => svg("line", { class: "grid", x1: percent(tick), x2: percent(tick), y1: 0, y2: height }));
function axis() {
  const anchor = tick => tick === 0 ? "start" : tick === 1 ? "end" : "middle";
  return svg("svg", { height: 18, "aria-hidden": "true" }, ticks.map(tick => svg("text", { x: percent(tick), y: 12, "text-anchor": anchor(tick) }, String(tick * best))));
}
function bar(task) {
  const along = value => value === null || value === undefined ? null : value / best;
  const said = `${task.name}: ${digits(task.score)}` + (task.baseline === null ? "" : t(`, baseline ${task.baseline}`, `, бейзлайн ${task.baseline}`)) + (task.threshold === null ? "" : t(`, threshold ${task.threshold}`, `, порог ${task.threshold}`));
  return svg("svg", { height: 34, role: "img", "aria-label": said }, svg("title", {}, said), gridLines(34),
    svg("rect", { class: "rail", x: 0, width: "100%", y: 9, height: 16, rx: 4 }),
    task.score === null ? null : svg("rect", { class: `fill-${family(task.number)}`, x: 0, width: percent(along(task.score)), y: 9, height: 16, rx: 4 }),
    whisker(task.interval && task.interval.map(along), 17), mark("threshold", along(task.threshold), 4, 30), mark("baseline", along(task.baseline), 3, 31));
}
function stacked(total, interval, baseline) {
  const reach = Math.max(total, baseline ?? 0, interval ? interval[1] : 0);
  const end = [.1, .2, .3, .4, .5, .75].map(end => end * page.best).find(end => end > 1.12 * reach) ?? page.best;
  let start = 0;
  const at = value => percent(value / end);
  const parts = page.tasks.filter(task => task.score !== null && (total === page.integral || !isHidden(task.number))).map(task => {
    const width = Math.max(0, task.weight * task.score), x = at(start);
    start += width;
    const said = `${task.name}: ${digits(task.score)} × ${task.share} = ${digits(width)}`;
    return svg("rect", { class: `fill-${family(task.number)} gap`, x, width: at(width), y: 23, height: 34 }, svg("title", {}, said));
  });
  return svg("svg", { height: 80, role: "img", "aria-label": t(`${digits(total)} of ${digits(page.best)}`, `${digits(total)} из ${digits(page.best)}`) + (baseline === null ? "" : `, ${t("baseline", "бейзлайн")} ${digits(baseline)}`) },
    svg("rect", { class: "rail", x: 0, width: "100%", y: 23, height: 34, rx: 4 }), parts, whisker(interval && interval.map(value => value / end), 40),
    baseline === null ? null : [mark("baseline", baseline / end, 16, 64), svg("text", { x: at(baseline), y: 11, "text-anchor": baseline / end > .8 ? "end" : "middle" }, `${t("baseline", "бейзлайн")} ${digits(baseline)}`)],
    svg("text", { x: 0, y: 73 }, "0"), svg("text", { x: "100%", y: 73, "text-anchor": "end" }, amount(end)));
}
function histogram(task) {
  const top = Math.max(1, ...task.histogram), step = 100 / task.histogram.length, height = 54;
  const said = t(`Scores of single examples, from 0 to ${task.best} in tenths: `, `Баллы отдельных примеров, от 0 до ${task.best} десятыми: `) + task.histogram.join(", ");
  return svg("svg", { height: height + 18, role: "img", "aria-label": said },
    task.histogram.map((count, i) => svg("rect", {
      class: count ? `fill-${family(task.number)}` : "rail", x: `${i * step + .6}%`, width: `${step - 1.2}%`, rx: 2,
      y: count ? height - Math.max(3, height * count / top) : height - 2, height: count ? Math.max(3, height * count / top) : 2,
    }, svg("title", {}, t(`${amount(i * task.best / 10)} to ${amount((i + 1) * task.best / 10)}: ${count} of ${task.n}`, `от ${amount(i * task.best / 10)} до ${amount((i + 1) * task.best / 10)}: ${count} из ${task.n}`)))),
    svg("text", { x: 0, y: height + 14 }, "0"), svg("text", { x: "50%", y: height + 14, "text-anchor": "middle" }, t(`most: ${top} of ${task.n}`, `больше всего: ${top} из ${task.n}`)),
    svg("text", { x: "100%", y: height + 14, "text-anchor": "end" }, String(task.best)));
}
function legend(items) {
  const sample = draw => svg("svg", { height: 16, viewBox: "0 0 22 16", "aria-hidden": "true" }, draw);
  const known = {
    open: [t("open task", "открытая задача"), sample(svg("rect", { class: "fill-open", x: 2, y: 3, width: 18, height: 10, rx: 2 }))],
    hidden: [t("hidden task", "скрытая задача"), sample(svg("rect", { class: "fill-hidden", x: 2, y: 3, width: 18, height: 10, rx: 2 }))],
    baseline: [t("baseline", "бейзлайн"), sample(svg("line", { class: "baseline", x1: 11, x2: 11, y1: 0, y2: 16 }))],
    threshold: [t("prize threshold", "порог приза"), sample(svg("line", { class: "threshold", x1: 11, x2: 11, y1: 0, y2: 16 }))],
    interval: [t("95 % bootstrap interval", "95-процентный бутстреп-интервал"), sample(svg("g", { class: "whisker" }, svg("line", { x1: 2, x2: 20, y1: 8, y2: 8 }), svg("line", { x1: 2, x2: 2, y1: 4, y2: 12 }), svg("line", { x1: 20, x2: 20, y1: 4, y2: 12 })))],
  };
  return el("ul", { class: "legend" }, items.map(item => el("li", {}, known[item][1], known[item][0])));
}
const between = interval => interval ? t(`${digits(interval[0])} to ${digits(interval[1])}`, `от ${digits(interval[0])} до ${digits(interval[1])}`) : null;

/* Sections */
function scoreSection() {
  const whole = page.integral !== null, total = whole ? page.integral : page.open_part;
  const baseline = whole ? page.baseline : page.baseline_open, interval = whole ? page.interval : page.open_part_interval;
  const difference = total === null || baseline === null ? 0 : total - baseline;
  const has = name => page.tasks.some(task => task[name] !== null && task[name] !== undefined);
  const weights = [...new Set(page.tasks.map(task => task.share))].join(", ");
  const kinds = ["open", "hidden"].filter(kind => page.tasks.some(task => family(task.number) === kind));
  const hero = el("div", { class: "card hero" },
    el("div", {},
      el("p", { class: "muted" }, whole ? t("Integral score", "Интегральный балл") : total === null ? t("Integral score: none, as not all tasks have a score", "Интегрального балла нет: балл есть не у всех задач") : t("Open part of the integral score", "Открытая часть интегрального балла")),
      total === null ? null : el("p", { class: "big" }, el("span", { id: "total" }, digits(total)), page.labels.length ? el("span", { class: "sign", "aria-hidden": "true" }, [...signs.values()].join("")) : null),
      interval ? el("p", { class: "muted small" }, t(`95 % interval ${between(interval)}`, `95-процентный интервал ${between(interval)}`)) : null,
      total === null || baseline === null ? null : el("p", { class: "against" },
        el("span", { class: difference >= 0 ? "better" : "worse" }, `${difference >= 0 ? "▲" : "▼"} ${digits(Math.abs(difference))} ${difference >= 0 ? t("above", "выше") : t("below", "ниже")}`),
        t(` the baseline's ${digits(baseline)}`, ` бейзлайна, ${digits(baseline)}`)),
      page.labels.length ? el("div", { class: "labels" }, page.labels.map(text => el("span", { class: "badge warn label" }, `${signs.get(text)} ${named(text)}`))) : null),
    total === null ? null : el("div", {}, stacked(total, interval, baseline),
      el("p", { class: "small muted" }, t(`Each block is one task's share: its score times its weight (${weights}).`, `Каждая часть — доля одной задачи: балл, умноженный на вес (${weights}).`) + (whole ? "" : t(" Hidden tasks are not all here.", " Скрытые задачи здесь не все.")))));
  const rows = page.tasks.map(task => {
    const met = task.threshold !== null && task.score !== null ? task.score >= task.threshold : null;
    return el("tr", { role: "row" },
      el("th", { scope: "row", role: "rowheader" }, el("a", { href: `#task-${task.number}` }, task.name), task.metric ? el("span", { class: "metric" }, task.metric) : null),
      el("td", { class: "plot", role: "cell" }, task.error ? el("span", { class: "error" }, `${t("cannot be scored", "не удалось оценить")}: ${task.error}`) : bar(task)),
      el("td", { class: "number score", role: "cell" }, task.score === null ? t("error", "ошибка") : digits(task.score), signed(task.labels), task.interval ? el("span", { class: "interval" }, between(task.interval)) : null),
      el("td", { class: "number beside", role: "cell", "data-name": task.baseline === null ? null : t("baseline", "бейзлайн") }, task.baseline === null ? "" : digits(task.baseline, 2)),
      el("td", { class: "number beside last", role: "cell", "data-name": task.threshold === null ? null : t("threshold", "порог") }, task.threshold === null ? "" : [digits(task.threshold, 2), " ", met === null ? null : el("span", { class: `badge ${met ? "good" : "bad"}` }, met ? t("✓ met", "✓ взят") : t("✗ missed", "✗ не взят"))]),
      el("td", { class: "number count-cell", role: "cell" }, String(task.n)));
  });
  const head = name => el("th", { scope: "col", role: "columnheader", class: "number" }, name);
  return el("section", { id: "score", "aria-label": t("Score", "Балл") },
    page.private ? el("p", { class: "notice" }, t("Aggregates only: inputs, predictions and accepted answers are left out of this report.", "Только сводные числа: вопросов, ответов модели и верных ответов в этом отчёте нет."))
      : el("p", { class: "notice" }, t("This report has inputs and accepted answers in it. Where the data is hidden, it must not reach the teams; --report-private writes one that may.", "В этом отчёте есть вопросы и верные ответы. Если данные скрыты, командам его показывать нельзя; отчёт для команд пишет --report-private.")),
    page.counts ? null : el("p", { class: "notice", id: "not-counted" }, t("Not every task could be scored, through no fault of the submission, so this attempt does not count. The tasks below say why.", "Не все задачи удалось оценить, и не по вине решения, поэтому попытка не засчитывается. Причины — ниже, у задач.")),
    page.notes.length ? el("ul", { class: "notice", id: "notes" }, page.notes.map(text => el("li", {}, text))) : null,
    hero, el("h2", {}, t("Scores by task", "Баллы по задачам")),
    el("div", { class: "card" },
      el("table", { class: "chart", role: "table" },
        el("caption", { class: "vh" }, t("Score of each task against the baseline and the prize threshold", "Балл каждой задачи рядом с бейзлайном и порогом приза")),
        el("thead", {}, el("tr", { role: "row" }, el("th", { scope: "col" }, t("Task and metric", "Задача и метрика")), el("th", { scope: "col", class: "axis", "aria-label": t(`Score from 0 to ${best}`, `Балл от 0 до ${best}`) }, axis()), head(t("Score", "Балл")), head(t("Baseline", "Бейзлайн")), head(t("Threshold", "Порог")), head(t("Examples", "Примеров")))),
        el("tbody", {}, rows)),
      el("div", { class: "below" }, legend([...kinds, ...(has("baseline") ? ["baseline"] : []), ...(has("threshold") ? ["threshold"] : []), ...(has("interval") ? ["interval"] : [])]),
        page.labels.length ? el("ul", { class: "legend" }, page.labels.map(text => el("li", {}, el("b", {}, signs.get(text)), named(text)))) : null)),
    page.published.length ? [el("h2", {}, t("Published results", "Опубликованные результаты")), el("p", { class: "muted" }, t("On the competition's own data; scores on other data say little beside them.", "На данных самого соревнования; баллы на других данных с ними почти не сравнимы.")), publishedTable()] : null);
}
/* Results of others, this one among them by its total. */
function publishedTable() {
  const own = page.integral === null ? [] : [{ name: t("this report", "этот отчёт"), total: page.integral, tasks: Object.fromEntries(page.tasks.map(task => [task.name, task.score])) }];
  const results = [...own, ...page.published].sort((a, b) => b.total - a.total);
  const head = (name, kind) => el("th", { scope: "col", class: kind }, name);
  const number = value => el("td", { class: "number" }, value === undefined || value === null ? "" : digits(value, 2));
  return el("div", { class: "card table", id: "published", tabindex: "0", role: "region", "aria-label": t("Published results", "Опубликованные результаты") },
    el("table", {},
      el("caption", { class: "vh" }, t("Published results beside this one", "Опубликованные результаты рядом с этим")),
      el("thead", {}, el("tr", {}, head(t("Result", "Результат"), null), head(t("Total", "Всего"), "number"), page.tasks.map(task => head(task.name, "number")))),
      el("tbody", {}, results.map(result => el("tr", { class: result === own[0] ? "own" : null },
        el("th", { scope: "row" }, result.name), el("td", { class: "number" }, digits(result.total, 3)), page.tasks.map(task => number(result.tasks[task.name])))))));
}
function taskSection() {
  const cards = page.tasks.map(task => el("article", { class: `card task ${isHidden(task.number) ? "is-hidden" : ""}`, id: `task-${task.number}` },
    el("div", { class: "head" }, el("h3", {}, task.name), el("b", {}, task.score === null ? t("error", "ошибка") : digits(task.score), signed(task.labels))),
    task.title && task.title !== task.name ? el("p", { class: "title", lang: /[а-яё]/i.test(task.title) ? "ru" : null }, task.title) : null,
    task.histogram.some(count => count) ? histogram(task) : null,
    el("dl", { class: "facts" },
      Object.entries(task.parts).map(([name, value]) => [el("dt", {}, name), el("dd", {}, digits(value, Math.abs(value) < 10 ? 3 : 1))]),
      Object.entries(task.routes).map(([route, count]) => [el("dt", {}, t("entries", "записей")), el("dd", {}, `${count} × ${route}`)]),
      task.lengths ? [el("dt", {}, t("characters", "символов")), el("dd", {}, t(`${amount(task.lengths.min)} to ${amount(task.lengths.max)}`, `от ${amount(task.lengths.min)} до ${amount(task.lengths.max)}`)), el("dt", {}, t("median length", "медиана длины")), el("dd", {}, amount(task.lengths.median))] : null,
      task.lengths && task.lengths.empty ? [el("dt", {}, t("empty answers", "пустых ответов")), el("dd", {}, String(task.lengths.empty))] : null),
    task.interval_of ? el("p", { class: "small muted" }, t("The score belongs to the whole set, and is not the mean over the examples. Its interval: ", "Балл — всего набора, а не среднее по примерам. Его интервал: "), task.interval_of) : null,
    page.private ? null : el("button", { type: "button", on: { click: () => { reset({ task: String(task.number) }); document.getElementById("examples").scrollIntoView(); document.getElementById("task").focus({ preventScroll: true }); } } }, t(`Browse ${task.n} example${task.n === 1 ? "" : "s"}`, `Смотреть примеры: ${task.n}`))));
  return el("section", { id: "tasks", "aria-labelledby": "tasks-title" }, el("h2", { id: "tasks-title" }, t("What lies behind each score", "Что стоит за баллами")),
    el("p", { class: "muted small" }, t("How the scores of single examples are spread, and what the model answered with.", "Как распределены баллы отдельных примеров и чем отвечала модель.")), el("div", { class: "tasks" }, cards));
}

/* Examples: filtered as a whole, drawn a page at a time */
const fold = text => text.toLowerCase().replaceAll("ё", "е");
const state = { query: "", task: "", kind: "", low: null, high: null, sort: "worst", page: 0 };
let found = [], controls = {};
function haystack(example) {
  if (example.words === undefined) {
    const texts = [...example.input, example.answer, ...example.accepted, ...(example.surplus ? [example.surplus] : [])].map(item => item.text ?? "");
    example.words = fold(texts.join("\n"));
  }
  return example.words;
}
const textLength = example => (example.answer.text ?? "").length + (example.answer.cut ?? 0);
const score = example => example.score ?? -Infinity;
const collate = new Intl.Collator("en", { numeric: true }).compare;  // made once: localeCompare makes it anew each time
const orders = {
  worst: (a, b) => score(a) - score(b), best: (a, b) => score(b) - score(a),
  longest: (a, b) => textLength(b) - textLength(a), shortest: (a, b) => textLength(a) - textLength(b),
  id: (a, b) => collate(a.id, b.id),
};
const kinds = {
  "text answer": ["ответ — текст", example => tasks.get(example.task).output === "text"], "image answer": ["ответ — изображение", example => tasks.get(example.task).output === "image"],
  "empty text": ["пустой текст", example => example.answer.text === ""],
  "entries: text alone": ["записи: только текст", example => example.route === "text"], "entries: image alone": ["записи: только изображение", example => example.route === "image"],
  "entries: text + image": ["записи: текст и изображение", example => example.route === "text + image"],
};
function select() {
  const query = fold(state.query.trim()), id = query.startsWith("#") ? query.slice(1) : null;
  found = page.examples.filter(example =>
    (state.task === "" || example.task === Number(state.task))
    && (state.kind === "" || kinds[state.kind][1](example))
    && (state.low === null || (example.score !== null && example.score >= state.low))
    && (state.high === null || (example.score !== null && example.score <= state.high))
    && (query === "" || (id !== null && example.id.toLowerCase() === id) || haystack(example).includes(query)));
  found.sort((a, b) => orders[state.sort](a, b) || orders.id(a, b));
  state.page = 0;
  draw();
}
function said(item, alternative) {
  if (item.note) return el("p", { class: "none" }, item.note);
  if (item.image !== undefined) {
    const [width, height, content] = page.images[item.image];
    return el("figure", {}, el("img", { src: `data:image/jpeg;base64,${content}`, width, height, alt: alternative, loading: "lazy", decoding: "async" }));
  }
  if (item.boxes) {
    const [width, height, content] = page.images[item.over], [full, tall] = item.size, labels = [...new Set(item.boxes.map(([label]) => label))];
    return el("figure", {}, el("div", { class: "boxed" },
      el("img", { src: `data:image/jpeg;base64,${content}`, width, height, alt: `${alternative ?? t("Image", "Изображение")}: ${t("boxes", "рамок")} ${item.boxes.length}`, loading: "lazy", decoding: "async" }),
      svg("svg", { viewBox: `0 0 ${full} ${tall}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        item.boxes.map(([label, x, y, w, h]) => svg("rect", { class: `box b${labels.indexOf(label) % 4}`, x: Math.min(x, x + w), y: Math.min(y, y + h), width: Math.abs(w), height: Math.abs(h) }, svg("title", {}, label))))),
      el("figcaption", { class: "small" }, item.boxes.length ? labels.map((label, i) => el("span", { class: `key b${i % 4}`, dir: "auto" }, label)) : t("no boxes", "рамок нет")));
  }
  if (item.parts) return el("div", { class: "said code", dir: "ltr" }, item.text === "" ? el("span", { class: "none" }, t("empty text", "пустой текст")) : null,
    program(item.parts));
  return el("div", { class: "said", lang: "ru", dir: "auto" }, item.text === "" ? el("span", { class: "none", lang: language }, t("empty text", "пустой текст")) : item.text,
    item.cut ? el("span", { class: "none", lang: language }, t(` … and ${amount(item.cut)} more characters`, ` … и ещё символов: ${amount(item.cut)}`)) : null);
}
/* A program of 2021, whose layout is words of it, as lines; where it differs from the reference these words show, too. */
function program(parts) {
  let depth = 0, begins = false;
  const written = (kind, word) => {
    const sign = { NEW_LINE: "↵", INDENT: "⇥", DEDENT: "⇤" }[word];
    if (sign && kind !== "less") {
      depth = Math.max(0, depth + (word === "INDENT" ? 1 : word === "DEDENT" ? -1 : 0));
      begins ||= word === "NEW_LINE";
    }
    if (sign) return [kind === "same" ? null : sign, kind !== "less" && word === "NEW_LINE" ? "\n" : null];
    const before = begins ? "    ".repeat(depth) : "";
    begins = false;
    return [before, page.keywords.includes(word) ? el("b", {}, word) : word, " "];
  };
  return parts.map(([kind, words]) => {
    const shown = words.split(" ").flatMap(word => written(kind, word));
    return kind === "same" ? shown : el(kind === "more" ? "ins" : "del", {}, shown);
  });
}
function meter(example) {
  const value = example.score;
  if (value === null) return el("span", { class: "value muted" }, t("no score", "без балла"));
  return el("span", { class: `value ${value < 1 / 3 ? "low" : value < 2 / 3 ? "mid" : "high"}` },
    svg("svg", { height: 8, "aria-hidden": "true" }, svg("rect", { class: "rail", width: "100%", height: 8, rx: 4 }), svg("rect", { class: "of", width: percent(value / tasks.get(example.task).best), height: 8, rx: 4 })), digits(value));
}
function card(example) {
  const task = tasks.get(example.task), more = example.more ?? [0, 0];
  const truths = example.accepted.map(item => said(item, t("Reference image", "Эталонное изображение")));
  const pictures = task.output === "image";
  const answer = el("div", { class: "part answer" }, el("h4", {}, t("Answer", "Ответ")), said(example.answer, t("Generated image", "Созданное изображение")));
  const accepted = el("div", { class: "part" }, el("h4", {}, pictures ? t("Reference", "Эталон") : truths.length > 1 ? t("Accepted answers", "Верные ответы") : t("Accepted answer", "Верный ответ")),
    pictures ? truths : el("ul", { class: "accepted" }, truths.map(truth => el("li", {}, truth))), more[1] ? el("p", { class: "none" }, t(`and ${more[1]} more`, `и ещё ${more[1]}`)) : null);
  return el("article", { class: `card example ${isHidden(example.task) ? "is-hidden" : ""}` },
    el("div", { class: "head" }, el("h3", {}, task.name, " ", el("span", { class: "muted" }, `#${example.id}`)),
      el("span", { class: "badge" }, example.route), meter(example)),
    el("div", { class: "sides" },
      el("div", { class: "side question" }, el("h4", {}, t("Question", "Вопрос")), example.input.map(item => said(item, t("Image of the question", "Изображение вопроса"))), more[0] ? el("p", { class: "none" }, t(`and ${more[0]} more entries`, `и ещё записей: ${more[0]}`)) : null),
      el("div", { class: "side" }, pictures ? el("div", { class: "pair" }, answer, accepted) : [answer, accepted],
        example.surplus ? el("div", { class: "part" }, el("h4", {}, t("Also answered, not scored", "Ещё ответ, не оценивается")), said(example.surplus)) : null)));
}
function draw() {
  const pages = Math.max(1, Math.ceil(found.length / PAGE_SIZE)), start = state.page * PAGE_SIZE;
  const part = found.slice(start, start + PAGE_SIZE);
  controls.count.textContent = found.length ? t(`${amount(start + 1)} to ${amount(start + part.length)} of ${amount(found.length)} example${found.length === 1 ? "" : "s"}`, `${amount(start + 1)}–${amount(start + part.length)} из ${amount(found.length)}`) : t("no example", "примеров нет");
  controls.list.replaceChildren(...(part.length ? part.map(card) : [el("div", { class: "card empty" }, el("p", {}, t("No example matches these filters.", "Под эти условия не подходит ни один пример.")), el("button", { type: "button", on: { click: () => reset() } }, t("Show all", "Показать все")))]));
  for (const pager of controls.pagers) {
    pager.hidden = pages === 1;
    const [back, place, next] = pager.children;
    back.disabled = state.page === 0;
    next.disabled = state.page === pages - 1;
    place.textContent = `${state.page + 1} / ${pages}`;
  }
}
function turn(step) {
  state.page += step;
  draw();
  controls.top.scrollIntoView();
  controls.list.focus({ preventScroll: true });
}
function reset(values = {}) {
  Object.assign(state, { query: "", task: "", kind: "", low: null, high: null }, values);
  controls.query.value = ""; controls.task.value = state.task; controls.kind.value = ""; controls.low.value = ""; controls.high.value = "";
  select();
}
function exampleSection() {
  const pager = () => el("div", { class: "pager", role: "group", "aria-label": t("Pages", "Страницы") },
    el("button", { type: "button", on: { click: () => turn(-1) } }, t("← Previous", "← Назад")), el("span", { class: "muted" }), el("button", { type: "button", on: { click: () => turn(1) } }, t("Next →", "Дальше →")));
  const options = (values, chosen) => values.map(([value, name]) => el("option", { value, selected: value === chosen }, name));
  const listen = (name, read) => ({ change: event => { state[name] = read(event.target); select(); } });
  const number = name => ({ input: event => { state[name] = event.target.value === "" || Number.isNaN(event.target.valueAsNumber) ? null : event.target.valueAsNumber; select(); } });
  let waiting;
  const scoreInput = (id, name, low) => el("input", { id, type: "number", min: -best, max: best, step: best / 20, "aria-label": name, placeholder: low, on: number(id) });
  controls = {
    query: el("input", { id: "query", type: "search", placeholder: t("a word, or #16", "слово или #16"), autocomplete: "off", on: { input: event => { clearTimeout(waiting); waiting = setTimeout(() => { state.query = event.target.value; select(); }, 120); } } }),
    task: el("select", { id: "task", on: listen("task", target => target.value) }, options([["", t("all tasks", "все задачи")], ...page.tasks.map(task => [String(task.number), task.name])], "")),
    kind: el("select", { id: "kind", on: listen("kind", target => target.value) }, options([["", t("any", "любой")], ...Object.entries(kinds).map(([kind, [russian]]) => [kind, t(kind, russian)])], "")),
    sort: el("select", { id: "sort", on: listen("sort", target => target.value) }, options([["worst", t("worst first", "сначала худшие")], ["best", t("best first", "сначала лучшие")], ["longest", t("longest text first", "сначала длинные")], ["shortest", t("shortest text first", "сначала короткие")], ["id", t("by id", "по номеру")]], "worst")),
    low: scoreInput("low", t("lowest score", "наименьший балл"), "0"), high: scoreInput("high", t("highest score", "наибольший балл"), String(best)),
    count: el("p", { id: "count", role: "status" }), list: el("div", { class: "list", id: "list", tabindex: -1 }), pagers: [pager(), pager()],
  };
  controls.top = el("div", { class: "count" }, controls.count, controls.pagers[0]);
  return el("section", { id: "examples", "aria-labelledby": "examples-title" }, el("h2", { id: "examples-title" }, t("Examples", "Примеры")),
    el("form", { class: "card filters", role: "search", on: { submit: event => event.preventDefault() } },
      el("div", { class: "wide" }, el("label", { for: "query" }, t("Search", "Поиск")), controls.query),
      el("div", {}, el("label", { for: "task" }, t("Task", "Задача")), controls.task),
      el("div", {}, el("label", { for: "kind" }, t("Kind of answer", "Вид ответа")), controls.kind),
      el("div", {}, el("label", { for: "sort" }, t("Order", "Порядок")), controls.sort),
      el("fieldset", {}, el("legend", {}, t("Score from, to", "Балл от и до")), el("div", { class: "range" }, controls.low, controls.high))),
    controls.top, controls.list, el("div", { class: "count" }, el("span"), controls.pagers[1]));
}

function duration(seconds) {
  const whole = Math.round(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return seconds < 60 ? `${seconds.toFixed(1)} ${t("s", "с")}` : `${hours ? `${hours} ${t("h", "ч")} ` : ""}${minutes} ${t("min", "мин")} ${whole % 60} ${t("s", "с")}`;
}
function aboutSection() {
  const facts = pairs => el("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  const grams = kg => kg === null ? t("unknown", "неизвестно") : `${amount(kg * 1000)} ${t("g", "г")}`;
  let run = el("p", { class: "muted" }, t("Scored from an output folder; the run itself was not measured.", "Оценена папка с ответами; сам прогон не измерялся."));
  if (page.run) {
    const carbon = page.run.carbon;
    run = [facts([
      [t("time", "время"), duration(page.run.seconds)], [t("time an example", "на один пример"), `${amount(page.run.seconds / page.count)} ${t("s", "с")}`],
      carbon && [t(`CO₂ by counters, ${carbon.country}`, `CO₂ по счётчикам, ${carbon.country}`), `${grams(carbon.counters.kg)}, ${amount(carbon.counters.kwh * 3.6e6)} ${t("J", "Дж")}`],
      carbon && [t(`CO₂ by eco2AI, ${carbon.country}`, `CO₂ по eco2AI, ${carbon.country}`), carbon.eco2ai.error ? `${t("not measured", "не измерено")}: ${carbon.eco2ai.error}` : `${grams(carbon.eco2ai.kg)}, ${amount(carbon.eco2ai.kwh * 3.6e6)} ${t("J", "Дж")}`],
      carbon && [t("CPU time", "время CPU"), t(`${duration(carbon.counters.cpu_seconds)} at ${amount(carbon.counters.cpu_watts_per_core)} W a core`, `${duration(carbon.counters.cpu_seconds)} по ${amount(carbon.counters.cpu_watts_per_core)} Вт на ядро`)],
      carbon && carbon.counters.gpu_joules !== null && [t("GPU energy", "энергия GPU"), `${amount(carbon.counters.gpu_joules)} ${t("J", "Дж")}`],
    ]), carbon && carbon.warnings.length ? el("ul", { class: "small muted" }, carbon.warnings.map(warning => el("li", {}, warning))) : null];
  }
  const unified = page.shared_parameters;
  return el("section", { id: "about", "aria-labelledby": "about-title" }, el("h2", { id: "about-title" }, t("Run and versions", "Прогон и версии")), el("div", { class: "about" },
    el("div", { class: "card" }, el("h3", {}, t("Run", "Прогон")), run),
    unified ? el("div", { class: "card", id: "shared-parameters" }, el("h3", {}, t("One model for all tasks", "Одна модель на все задачи")),
      facts([[t("parameters shared by all tasks' models", "параметры, общие для моделей всех задач"), unified.share === null ? t("not counted", "не посчитано") : t(`${amount(unified.shared)} of ${amount(unified.total)}, ${digits(100 * unified.share, 1)} %`, `${amount(unified.shared)} из ${amount(unified.total)}, ${digits(100 * unified.share, 1)} %`)],
        [t("needed for a place", "нужно для призового места"), [`${amount(100 * unified.required)} % `, el("span", { class: `badge ${unified.met ? "good" : "bad"}` }, unified.met ? t("✓ met", "✓ выполнено") : t("✗ not met", "✗ не выполнено"))]]]),
      el("ul", { class: "small muted" }, unified.notes.map(note => el("li", {}, note)))) : null,
    el("div", { class: "card" }, el("h3", {}, t("Scored with", "Чем оценено")), el("p", {}, page.labels.length ? page.labels.map(label) : t("the leaderboard's own encoders and data", "кодировщики и данные таблицы лидеров")), facts(page.versions.map(item => [item.name, item.version]))),
    el("div", { class: "card wide" }, el("h3", {}, "SHA-256"), el("dl", { class: "digests" }, page.digests.map(item => el("div", {}, el("dt", {}, item.name, item.files > 1 ? el("span", { class: "muted" }, t(` · ${amount(item.files)} files`, ` · файлов: ${amount(item.files)}`)) : null), el("dd", {}, item.sha256)))),
      el("p", { class: "small muted" }, t("Of several files: the digest of the list that sha256sum prints for them, in the byte order of their paths.", "Для нескольких файлов — сумма списка, который печатает для них sha256sum, в порядке байтов их путей.")))));
}

document.getElementById("created").textContent = page.created;
/* The whole page in the language that is chosen. */
function speak() {
  document.documentElement.lang = language;
  document.title = `${page.competition}: ${t("report", "отчёт")}`;
  document.getElementById(language).checked = true;
  for (const link of document.querySelectorAll("[data-ru]")) link.textContent = t(link.dataset.en, link.dataset.ru);
  const main = document.getElementById("main"), foot = document.getElementById("foot");
  main.replaceChildren(scoreSection(), taskSection());
  if (!page.private) {
    main.append(exampleSection());
    controls.query.value = state.query; controls.task.value = state.task; controls.kind.value = state.kind; controls.sort.value = state.sort;
    controls.low.value = state.low ?? ""; controls.high.value = state.high ?? "";
    select();
  }
  main.append(aboutSection());
  const left = page.left_out, limits = page.limits, characters = amount(limits.text);
  if (!page.private) foot.replaceChildren(
    el("p", {}, t(`Images are thumbnails of at most ${limits.thumbnail} pixels a side. The report holds up to ${limits.images / 1e6} MB of them, ${limits.texts / 1e6} million characters of text, and ${characters} characters of one text.`,
      `Изображения уменьшены до ${limits.thumbnail} пикселей по большей стороне. В отчёт входит до ${limits.images / 1e6} МБ изображений, ${limits.texts / 1e6} млн символов текста и ${characters} символов одного текста.`)),
    left.examples || left.images ? el("p", { id: "left-out" }, t(`Left out: ${amount(left.examples)} examples, ${amount(left.images)} images, the best-scored of each task first.`,
      `Не вошло: примеров — ${amount(left.examples)}, изображений — ${amount(left.images)}; первыми — те, у которых балл в своей задаче выше.`)) : "");
}
if (page.private) document.querySelectorAll(".skip, #nav-examples").forEach(link => link.remove());
document.querySelector(".switch").addEventListener("change", event => {
  language = event.target.value;
  try { localStorage.setItem("language", language); } catch { /* storage is refused */ }
  speak();
});
speak();
