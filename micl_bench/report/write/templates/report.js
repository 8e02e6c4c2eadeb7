"use strict";
// The page is complete without this script; it adds sorting, filters, cards of evidence, and the
// list of all records. Text of records reaches the page as text alone, never as markup.

const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// ---- Card data: parts that many records share are stored once, in `parts` ----

/** Objects become Maps: no name of a record can touch a prototype. */
const asMap = (_, value) =>
  value && typeof value === "object" && !Array.isArray(value) ? new Map(Object.entries(value)) : value;
const evidence = JSON.parse($("#cards").textContent, asMap);
const SHARED = ["data", "training images", "checkpoint", "origin", "settings", "recipe", "environment"];
const records = evidence.get("records");
for (const fields of records)
  for (const name of SHARED) fields.set(name, evidence.get("parts")[fields.get(name)]);
const cards = new Map([...records, ...evidence.get("published")].map((fields) => [fields.get("id"), fields]));

// ---- Grids: rows that can be sorted, filtered and turned by pages ----

const compareText = new Intl.Collator("en", { numeric: true }).compare;

/** Ascending; missing values stay last in either direction. */
function inOrder(column, sign) {
  return (a, b) => {
    const [x, y] = [a.keys[column], b.keys[column]];
    if (x === null || y === null) return (x === null) - (y === null) || a.rank - b.rank;
    const order = typeof x === "number" ? x - y : compareText(x, y);
    return sign * order || a.rank - b.rank;
  };
}

/**
 * Makes a table sortable and filterable.
 * rows: {rank, keys: [by column], text: lower case, facets: {name: value}, make: () => tr}
 */
function grid({ name, table, rows, facets, pageSize = Infinity }) {
  const body = table.tBodies[0];
  const state = { column: -1, sign: 1, words: "", chosen: {}, page: 0 };
  const status = element("span", { class: "status", role: "status" });
  const turn = (by) => () => { state.page += by; show(); };
  const previous = element("button", { type: "button", onclick: turn(-1) }, "Previous");
  const next = element("button", { type: "button", onclick: turn(1) }, "Next");
  const place = element("span", {});
  const pages = element("span", { class: "pages", hidden: true }, previous, place, next);
  const headers = all("th[data-sort]", table.tHead).sort((a, b) => column(a) - column(b));

  // The label's header spans two rows where there are groups, so it is not in the last one.
  function column(header) {
    const row = table.tHead.rows[table.tHead.rows.length - 1];
    const shift = table.tHead.rows.length - 1;
    return header.parentNode === row ? header.cellIndex + shift : 0;
  }

  function show() {
    const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = Object.entries(state.chosen).filter(([, value]) => value !== "");
    const found = rows.filter((row) =>
      words.every((word) => row.text.includes(word)) &&
      chosen.every(([facet, value]) => row.facets[facet] === value));
    if (state.column >= 0) found.sort(inOrder(state.column, state.sign));
    const last = Math.max(0, Math.ceil(found.length / pageSize) - 1);
    state.page = Math.min(state.page, last);
    const start = pageSize === Infinity ? 0 : state.page * pageSize;
    const shown = found.slice(start, start + pageSize);
    body.replaceChildren(...shown.map((row) => (row.made ??= row.make())));
    status.textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    showPages(last, start, shown.length);
  }

  function showPages(last, start, count) {
    const turned = [previous, next].includes(document.activeElement);
    pages.hidden = last === 0;
    place.textContent = `rows ${start + 1} to ${start + count}`;
    previous.disabled = state.page === 0;
    next.disabled = state.page === last;
    // A disabled button has no focus: whoever turns pages by keyboard keeps it on the other one.
    if (turned && document.activeElement.disabled) (previous.disabled ? next : previous).focus();
  }

  function sortBy(index, kind) {
    const first = kind === "high" ? -1 : 1;
    if (state.column !== index) Object.assign(state, { column: index, sign: first });
    else if (state.sign === first) state.sign = -first;
    else state.column = -1;
    headers.forEach((header, i) => header.setAttribute("aria-sort",
      i !== state.column ? "none" : state.sign > 0 ? "ascending" : "descending"));
    state.page = 0;
    show();
  }

  headers.forEach((header, index) => {
    const press = () => sortBy(index, header.dataset.sort);
    header.setAttribute("aria-sort", "none");
    header.replaceChildren(element("button", { type: "button", onclick: press }, ...header.childNodes));
  });

  const search = element("input", { type: "search", placeholder: "Filter rows", "aria-label": `Filter rows of ${name}` });
  search.addEventListener("input", () => { Object.assign(state, { words: search.value, page: 0 }); show(); });
  const selects = facets.map((facet) => {
    const values = [...new Set(rows.map((row) => row.facets[facet]))].sort(compareText);
    const options = values.map((value) => element("option", { value }, value || "(none)"));
    const select = element("select", { "aria-label": `${facet}, in ${name}` },
      element("option", { value: "" }, `${facet}: all`), ...options);
    select.addEventListener("change", () => { state.chosen[facet] = select.value; state.page = 0; show(); });
    return values.length > 1 && values.length <= 60 ? select : "";
  });
  const controls = rows.length > 3 ? [search, ...selects, status, pages] : [];
  table.parentNode.before(element("div", { class: "controls" }, ...controls));
  if (pageSize !== Infinity) show();
  else status.textContent = `${rows.length.toLocaleString("en")} rows`;
}

/** A table that the page brought along. */
function staticGrid(table) {
  const headers = all("th[data-sort]", table.tHead);
  const wordy = headers.filter((header) => header.dataset.sort === "words" && header.rowSpan < 2);
  const rows = all("tr", table.tBodies[0]).map((row, rank) => ({
    rank,
    keys: [...row.cells].map((cell) => sortKey(cell)),
    text: row.textContent.toLowerCase(),
    facets: staticFacets(row),
    make: () => row,
  }));
  function staticFacets(row) {
    const found = { kind: row.classList.contains("published") ? "published" : "measured" };
    for (const header of wordy) {
      const cell = row.cells[header.cellIndex + (table.tHead.rows.length - 1)];
      if (cell && header.cellIndex + table.tHead.rows.length > 1) found[header.textContent] = cell.textContent;
    }
    return found;
  }
  const facets = Object.keys(rows[0]?.facets ?? {}).filter((facet) => {
    const values = new Set(rows.map((row) => row.facets[facet]));
    return values.size > 1 && values.size <= 30 && values.size < rows.length;
  });
  grid({ name: table.parentNode.getAttribute("aria-label"), table, rows, facets });
}

function sortKey(cell) {
  if ("v" in cell.dataset) return Number(cell.dataset.v);
  return cell.classList.contains("n") || cell.classList.contains("none") ? null : cell.textContent || null;
}

// ---- All records ----

const RECORD_COLUMNS = [
  ["record", "words"], ["task", "words"], ["data", "words"], ["method", "words"],
  ["architecture", "words"], ["seed", "high"], ["metric", "words"], ["value", "high"],
  ["95 % interval", "words"], ["start", "words"], ["status", "words"],
];

function recordRow(fields, index) {
  const metric = fields.get("metrics").find((each) => each[4] === fields.get("headline"));
  const data = fields.get("data").get("name");
  const texts = [
    fields.get("id"), fields.get("task"), data, fields.get("method"), fields.get("arch"),
    String(fields.get("seed")), metric[0], metric[1], metric[2], fields.get("start").slice(0, 16).replace("T", " "),
    fields.get("status"),
  ];
  const keys = texts.map((text) => text || null);
  keys[5] = Number(fields.get("seed"));
  keys[7] = metric[3];
  return {
    rank: -index,
    keys,
    text: `${texts.join(" ")} ${fields.get("protocol")}`.toLowerCase(),
    facets: { task: texts[1], data, method: texts[3], status: texts[10] },
    make: () => element("tr", {}, ...texts.map((text, i) => recordCell(text, i))),
  };
}

function recordCell(text, column) {
  if (column === 0) {
    const link = element("a", { href: `#record-${text}`, "aria-haspopup": "dialog" }, text);
    return element("th", { scope: "row", class: "id" }, link);
  }
  const kind = RECORD_COLUMNS[column][0] === "start" ? "date" : RECORD_COLUMNS[column][1] === "high" ? "n" : false;
  return element("td", { class: kind }, text);
}

function showRecords() {
  const headers = RECORD_COLUMNS.map(([text, sort]) =>
    element("th", { scope: "col", "data-sort": sort, class: sort === "high" ? "n" : false }, text));
  const table = element("table", { "data-table": "records" },
    element("thead", {}, element("tr", {}, ...headers)), element("tbody"));
  $("#records .scroll").append(table);
  const rows = records.map(recordRow).reverse();
  grid({ name: "all records", table, rows, facets: ["task", "data", "method", "status"], pageSize: 100 });
}

// ---- Cards ----

const dialog = $("#card");

const isEmpty = (value) => value === "" || value === null || value === undefined ||
  (Array.isArray(value) && !value.length) || (value instanceof Map && !value.size);

/** Any value as nested lists of terms. */
function shown(value) {
  if (value instanceof Map) return terms([...value]);
  if (Array.isArray(value)) {
    const plain = value.every((each) => !Array.isArray(each) && !(each instanceof Map));
    return plain ? value.join(", ") : element("ol", {}, ...value.map((each) => element("li", {}, shown(each))));
  }
  return String(value);
}

function terms(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs.filter(([, each]) => !isEmpty(each)))
    list.append(element("dt", {}, String(name)), element("dd", {}, shown(value)));
  return list;
}

const block = (title, ...content) => element("section", {}, element("h3", {}, title), ...content);
const folded = (title, value) =>
  isEmpty(value) ? "" : element("details", {}, element("summary", {}, title), shown(value));

function copyButton(source) {
  const button = element("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(source);
    try { await navigator.clipboard.writeText(source.textContent); } catch { document.execCommand("copy"); }
    button.textContent = "Copied";
  });
  return button;
}

function metricTable(metrics) {
  const head = ["metric", "value", "95 % interval"].map((text) => element("th", { scope: "col" }, text));
  const rows = metrics.map(([name, value, interval, exact]) => element("tr", {},
    element("th", { scope: "row" }, name),
    element("td", { class: "n", title: exact === null ? false : String(exact) }, value),
    element("td", { class: "n" }, interval)));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

function recordCard(fields) {
  const get = (name) => fields.get(name);
  const named = (...names) => terms(names.map((name) => [name, get(name)]));
  const command = element("pre", { tabindex: 0, "aria-label": "Command" }, get("command"));
  const artefacts = get("artefacts").map(([name, path, digest]) => [name, digest ? `${path}, SHA-256 ${digest}` : path]);
  const origin = get("origin").map((stage) => folded(
    `${stage.get("task")}: ${stage.get("method")}, ${stage.get("epochs")} epochs of ${stage.get("data") || "no images"}${stage.get("stated") ? ", as stated by the user" : ""}`, stage));
  return [
    block("Metrics", metricTable(get("metrics")), named("protocol")),
    block("Command", command, copyButton(command)),
    block("Evaluated on", shown(get("data"))),
    get("training images") ? block("Trained on", shown(get("training images"))) : "",
    block("Checkpoint", shown(get("checkpoint")), ...origin),
    block("Settings", named("fingerprint", "recipe digest", "seed"),
      folded("Settings that move the number", get("settings")), folded("Recipe", get("recipe"))),
    block("Run", named("start", "seconds", "device hours", "code version"), folded("Environment", get("environment"))),
    block("Files", terms([["record", get("file")], ...artefacts])),
  ];
}

function publishedCard(fields) {
  return [block("Published", element("p", {}, "Read in the source named here, not measured."),
    terms([...fields].filter(([name]) => name !== "id")))];
}

function badges(fields, isPublished) {
  const words = [isPublished ? "published" : "measured"];
  if (!isPublished && fields.get("status") !== "current") words.push(fields.get("status"));
  const standsFor = isPublished ? "" : fields.get("data").get("stands_for");
  if (standsFor) words.push(`stands in for ${standsFor}`);
  return words.map((word) => element("span", { class: "tag" }, word));
}

function newerLink(fields) {
  const newer = fields.get("superseded by");
  return newer ? element("p", {}, "Superseded by ", element("a", { href: `#record-${newer}` }, newer), ".") : "";
}

function siblings(id, group) {
  if (group.length < 2) return "";
  const links = group.map((each) => {
    const fields = cards.get(each);
    const words = fields.get("start") ? `seed ${fields.get("seed")}, ${fields.get("start").slice(0, 10)}` : each;
    return element("li", {}, element("a", { href: `#record-${each}`, "aria-current": each === id && "true" }, words));
  });
  return element("div", { class: "siblings" }, element("p", {}, `This number comes from ${group.length} records:`), element("ul", {}, ...links));
}

let group = [];

function openCard(id, from = []) {
  group = from.includes(id) ? from : [];
  const fields = cards.get(id);
  const isPublished = !fields.has("task title");
  const heading = isPublished
    ? [fields.get("task"), fields.get("method"), fields.get("arch")]
    : [fields.get("task title"), fields.get("data").get("name"), fields.get("method")];
  const close = element("button", { type: "button", class: "close", onclick: () => dialog.close() }, "Close");
  const title = element("h2", { id: "card-title", tabindex: -1 }, heading.join(" · "));
  dialog.replaceChildren(
    element("div", { class: "card-head" }, title, close),
    element("p", { class: "id" }, fields.get("id"), " ", ...badges(fields, isPublished)),
    newerLink(fields), siblings(id, group),
    ...(isPublished ? publishedCard(fields) : recordCard(fields)));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  title.focus();
}

/** Opens the card that the address names, or closes the one that it no longer names. */
function followAddress() {
  const id = location.hash.startsWith("#record-") ? location.hash.slice("#record-".length) : "";
  if (cards.has(id)) openCard(id, group);
  else if (dialog.open) dialog.close();
}

function startCards() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-cards]");
    group = link ? link.dataset.cards.split(" ") : dialog.contains(event.target) ? group : [];
  }, true);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    if (location.hash.startsWith("#record-")) history.replaceState(null, "", location.pathname + location.search);
    group = [];
  });
  addEventListener("hashchange", followAddress);
  followAddress();
}

// ---- Light and dark ----

function startScheme() {
  const root = document.documentElement;
  const isDark = () => (root.dataset.scheme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const button = element("button", { type: "button", id: "scheme" });
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`); };
  button.addEventListener("click", () => { root.dataset.scheme = isDark() ? "light" : "dark"; label(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();
  $("header").append(button);
}

// Paper has nothing to open: folded parts of the screen are printed in full, but for published tables.
function startPrinting() {
  let folds = [];
  addEventListener("beforeprint", () => {
    folds = all("main details:not([open]):not(.ledger)");
    folds.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => folds.forEach((fold) => { fold.open = false; }));
}

all("main table[data-table]").forEach(staticGrid);
all(".scripted").forEach((hidden) => { hidden.hidden = false; });
$("#unscripted").remove();
showRecords();
startScheme();
startPrinting();
startCards();
