// The live mailbox. Everything that comes from a mail is put in by textContent;
// its HTML is shown only in a sandboxed frame that the server forbids all scripts.

const PAGE = 200; // mails that are listed at first, and that "older" adds
const MAX_LIMIT = 1000; // of the API
const READ_KEPT = 2000;
const RECIPIENTS_SHOWN = 5;
const LONG_SUBJECT_CHARS = 120;
const RETRY_MS = 3000;
const UNREACHABLE = "The mailbox does not answer. Is it still running?";
const $ = (id) => document.getElementById(id);

const state = { mails: [], total: 0, wanted: PAGE, chosen: null, mail: null, tab: null, read: readIds() };

function readIds() {
  try {
    return new Set(JSON.parse(localStorage.getItem("read") ?? "[]"));
  } catch {
    return new Set();
  }
}

function markRead(id) {
  state.read.add(id);
  try {
    localStorage.setItem("read", JSON.stringify([...state.read].slice(-READ_KEPT)));
  } catch {
    // Without storage the marks last as long as the page.
  }
}

function element(tag, text, name) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

function when(iso, long) {
  const at = new Date(iso);
  if (long) return at.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  const today = at.toDateString() === new Date().toDateString();
  return today
    ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
    : at.toLocaleDateString([], { day: "numeric", month: "short" });
}

function size(octets) {
  if (octets < 1024) return `${octets} B`;
  return octets < 1024 ** 2 ? `${(octets / 1024).toFixed(1)} kB` : `${(octets / 1024 ** 2).toFixed(1)} MB`;
}

const mails = (count) => (count === 1 ? "1 mail" : `${count} mails`);
const path = (id) => `/api/messages/${encodeURIComponent(id)}`;
const searched = () => $("search").value.trim();

// ---- the server

// Return the answer, or null after the failure is shown.
async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    complain(UNREACHABLE);
    return null;
  }
  if (answer.ok) {
    complain("");
    return answer;
  }
  const problem = await answer.json().catch(() => null);
  complain(problem?.detail ?? `The mailbox answered ${answer.status}.`);
  return null;
}

function complain(text) {
  $("alert-text").textContent = text;
  $("alert").hidden = !text;
}

function listen() {
  const live = (on) => {
    $("live").classList.toggle("on", on);
    $("live-text").textContent = on ? "live" : "not connected";
  };
  const events = new EventSource("/api/events");
  events.addEventListener("open", () => live(true));
  events.addEventListener("mailbox", () => refresh());
  events.addEventListener("error", () => {
    live(false);
    // A browser does not come back by itself after an answer other than 200.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS);
  });
}

// ---- the list

let refreshing = null;
let again = false;

// One at a time, and once more if something changed meanwhile.
function refresh() {
  again = true;
  refreshing ??= (async () => {
    while (again) {
      again = false;
      await load();
    }
  })().finally(() => (refreshing = null));
  return refreshing;
}

async function load() {
  const search = searched();
  const found = [];
  let total = 0;
  do {
    const query = new URLSearchParams({ brief: "1", limit: Math.min(state.wanted - found.length, MAX_LIMIT) });
    if (search) query.set("search", search);
    if (found.length) query.set("before", found.at(-1).id);
    const answer = await ask(`/api/messages?${query}`);
    if (!answer) return;
    const part = await answer.json();
    found.push(...part);
    total = Number(answer.headers.get("X-Total-Count"));
    if (!part.length) break;
  } while (found.length < Math.min(state.wanted, total));
  if (search !== searched()) return;
  state.mails = found;
  state.total = total;
  showList();
}

function showList() {
  const search = searched();
  keepRows(state.mails);
  const left = state.total - state.mails.length;
  $("older").hidden = left <= 0;
  $("older").textContent = `Show ${Math.min(left, PAGE)} older of ${left}`;
  $("count").textContent = state.total || "";
  const empty = state.total === 0 && !search;
  $("nothing").hidden = state.total > 0 || !search;
  $("nothing").textContent = `No mail with “${search}” in an address, the subject or the text.`;
  $("clear").hidden = state.total === 0;
  $("clear").textContent = search ? `Delete these ${state.total}` : "Delete all";
  document.body.classList.toggle("empty-box", empty);
  document.title = state.total ? `Mailbox (${state.total})` : "Mailbox";
  if (empty) close();
  $("empty").hidden = !empty;
  $("choose").hidden = empty || state.chosen !== null;
}

// Rows that stay are not moved: moving one takes the focus away from it.
function keepRows(wanted) {
  const list = $("list");
  const ids = new Set(wanted.map((mail) => mail.id));
  const rows = new Map();
  const at = [...list.children].findIndex((item) => item.contains(document.activeElement));
  for (const item of [...list.children]) {
    if (ids.has(item.dataset.id)) rows.set(item.dataset.id, item);
    else item.remove();
  }
  wanted.forEach((mail, index) => {
    const item = rows.get(mail.id) ?? row(mail);
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    mark(item);
  });
  if (at >= 0 && !list.contains(document.activeElement)) focusRow(list.children[Math.min(at, list.children.length - 1)]);
}

function mark(item) {
  const button = item.firstChild;
  button.classList.toggle("unread", !state.read.has(item.dataset.id));
  if (item.dataset.id === state.chosen) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
}

function row(mail) {
  const button = element("button", "");
  button.type = "button";
  button.append(
    element("span", mail.to.join(", "), "to"),
    element("span", when(mail.received_at), "at"),
    element("span", mail.subject || "(no subject)", "subject"),
    element("span", mail.from ? `from ${mail.from}` : "from nobody (a bounce)", "from"),
  );
  if (mail.attachment_count) button.append(element("span", `${mail.attachment_count} attached`, "attached"));
  button.addEventListener("click", () => go(mail.id));
  const item = document.createElement("li");
  item.dataset.id = mail.id;
  item.append(button);
  return item;
}

const rowOf = (id) => [...$("list").children].find((item) => item.dataset.id === id);
const focusRow = (item) => (item ? item.firstChild : $("search")).focus();

// ---- one mail

function go(id) {
  if (location.hash === `#${id}`) follow(); // a second click tries again
  else location.hash = id;
}

async function open(id) {
  const answer = await ask(path(id));
  if (!answer || decodeURIComponent(location.hash.slice(1)) !== id) return;
  state.mail = await answer.json();
  state.chosen = id;
  markRead(id);
  showMail(state.mail);
  showList();
  rowOf(id)?.scrollIntoView({ block: "nearest" });
  // On a phone the list is gone, and the focus with it.
  if (getComputedStyle($("pane")).display === "none" && !$("reader").contains(document.activeElement)) $("subject").focus();
}

function close() {
  const left = state.chosen;
  const inside = $("reader").contains(document.activeElement);
  state.chosen = state.mail = null;
  $("mail").hidden = true;
  document.body.classList.remove("reading");
  if (location.hash) history.replaceState(null, "", location.pathname);
  if (left && inside) focusRow(rowOf(left));
}

function showMail(mail) {
  document.body.classList.add("reading");
  $("mail").hidden = false;
  $("subject").textContent = mail.subject || "(no subject)";
  $("subject").classList.toggle("long", mail.subject.length > LONG_SUBJECT_CHARS);
  $("subject").parentElement.scrollTop = 0;
  $("envelope").replaceChildren(
    ...pairs([
      ["From", mail.from || "nobody (a bounce)"],
      ["To", mail.to.slice(0, RECIPIENTS_SHOWN).join(", ")],
      ["Received", `${when(mail.received_at, true)}, ${size(mail.size)}`],
    ]),
  );
  showAllRecipients(mail.to, $("envelope").children[3]);
  $("header-list").replaceChildren(...pairs(Object.entries(mail.headers)));
  $("text").textContent = mail.text ?? "";
  $("source").textContent = "";
  $("raw").href = `${path(mail.id)}/raw`;
  $("raw").download = `${mail.id}.eml`;
  $("attachments").hidden = mail.attachments.length === 0;
  $("attachments").replaceChildren(...mail.attachments.map((one, number) => attachment(one, `${path(mail.id)}/attachments/${number}`)));
  tab("html").hidden = mail.html === null;
  tab("text").hidden = mail.text === null;
  const usable = state.tab && !tab(state.tab).hidden;
  choose(usable ? state.tab : mail.html !== null ? "html" : mail.text !== null ? "text" : "source");
}

function showAllRecipients(recipients, place) {
  const more = recipients.length - RECIPIENTS_SHOWN;
  if (more <= 0) return;
  const button = element("button", `and ${more} more`);
  button.type = "button";
  button.addEventListener("click", () => {
    place.textContent = recipients.join(", ");
    place.tabIndex = -1;
    place.focus();
  });
  place.append(" ", button);
}

function attachment(one, url) {
  const item = element("li", "");
  const save = element("a", one.viewable ? "save" : one.filename);
  save.href = url;
  save.download = one.filename;
  if (one.viewable) {
    const view = element("a", one.filename);
    view.href = url;
    view.target = "_blank";
    view.rel = "noopener";
    item.append(view, " · ", save);
    save.setAttribute("aria-label", `Save ${one.filename}`);
  } else {
    item.append(save);
  }
  item.append(` (${one.content_type}, ${size(one.size)})`);
  return item;
}

function pairs(entries) {
  return entries.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
}

// ---- tabs, by the pattern of the ARIA Authoring Practices

const TABS = [...document.querySelectorAll("[role=tab]")];
const tab = (name) => $(`tab-${name}`);

function choose(name) {
  for (const button of TABS) {
    const chosen = button === tab(name);
    button.setAttribute("aria-selected", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
    $(button.getAttribute("aria-controls")).hidden = !chosen;
  }
  // A frame that is replaced, not navigated, leaves no step in the history.
  if (name === "html") $("frame").contentWindow.location.replace(`${path(state.mail.id)}/html`);
  if (name === "source") showSource(state.mail.id);
}

function pick(button) {
  state.tab = button.getAttribute("aria-controls");
  choose(state.tab);
}

function turn(event) {
  const usable = TABS.filter((button) => !button.hidden);
  const at = usable.indexOf(document.activeElement);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const button = usable.at(next % usable.length);
  pick(button);
  button.focus();
}

async function showSource(id) {
  const answer = await ask(`${path(id)}/source`);
  if (answer && id === state.chosen) $("source").textContent = await answer.text();
}

// ---- what people do

function step(by) {
  const focused = document.activeElement.closest("#list li");
  const from = focused?.dataset.id ?? state.chosen;
  const at = state.mails.findIndex((mail) => mail.id === from);
  const next = state.mails[at < 0 ? 0 : at + by];
  if (!next) return;
  if (focused) focusRow(rowOf(next.id));
  go(next.id);
}

async function clear() {
  const search = searched();
  const question = search
    ? `Delete the ${mails(state.total)} with “${search}”? All others stay.`
    : `Delete all ${mails(state.total)}?`;
  if (!confirm(question)) return;
  const query = search ? `?${new URLSearchParams({ search })}` : "";
  if (!(await ask(`/api/messages${query}`, { method: "DELETE" }))) return;
  $("search").value = "";
  close();
  await refresh();
}

async function remove() {
  const { id } = state.mail;
  if (!(await ask(path(id), { method: "DELETE" }))) return;
  const at = state.mails.findIndex((mail) => mail.id === id);
  close();
  await refresh();
  focusRow($("list").children[Math.min(Math.max(at, 0), state.mails.length - 1)]);
}

async function older() {
  const at = state.mails.length;
  state.wanted = at + PAGE;
  await refresh();
  focusRow($("list").children[at]);
}

async function tellAddress() {
  const answer = await ask("/healthz");
  if (!answer) return;
  const { ports, smtp_published } = await answer.json();
  const [, host, port] = /^(.*):(\d+)$/.exec(smtp_published ?? `${location.hostname}:${ports.smtp}`);
  $("smtp").textContent = `${host}:${port}`;
  $("example").textContent = [
    "python3 - <<'END'",
    "import smtplib",
    `with smtplib.SMTP("${host}", ${port}) as smtp:`,
    '    mail = "Subject: Hello\\n\\nIt works."',
    '    smtp.sendmail("me@example.org", "you@example.org", mail)',
    "END",
  ].join("\n");
}

function follow() {
  const id = decodeURIComponent(location.hash.slice(1));
  if (id) open(id);
  else close(), showList();
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === $("search")) return;
  // Arrows scroll what has the focus, except in the list.
  const arrows = $("list").contains(event.target) || event.target === document.body;
  if (event.key === "j" || (arrows && event.key === "ArrowDown")) step(1);
  else if (event.key === "k" || (arrows && event.key === "ArrowUp")) step(-1);
  else if (event.key === "/") $("search").focus();
  else return;
  event.preventDefault();
}

let typing;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  state.wanted = PAGE;
  typing = setTimeout(refresh, 120);
});
$("dismiss").addEventListener("click", () => complain(""));
$("clear").addEventListener("click", clear);
$("delete").addEventListener("click", remove);
$("older").addEventListener("click", older);
$("back").addEventListener("click", () => (location.hash = ""));
$("tabs").addEventListener("keydown", turn);
for (const button of TABS) button.addEventListener("click", () => pick(button));
window.addEventListener("hashchange", follow);
document.addEventListener("keydown", press);

await tellAddress();
await refresh();
follow();
listen();
