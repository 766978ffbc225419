// The live mailbox. Everything that comes from a mail is put in by textContent;
// its HTML is shown only in a sandboxed frame that the server forbids all scripts.

const LIMIT = 200;
const READ_KEPT = 2000;
const $ = (id) => document.getElementById(id);

const state = { mails: [], total: 0, chosen: null, mail: null, tab: null, read: readIds() };

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

// ---- the list

async function refresh() {
  const query = new URLSearchParams({ brief: "1", limit: LIMIT });
  const search = $("search").value.trim();
  if (search) query.set("search", search);
  const answer = await fetch(`/api/messages?${query}`);
  if (!answer.ok || search !== $("search").value.trim()) return;
  state.mails = await answer.json();
  state.total = Number(answer.headers.get("X-Total-Count"));
  showList(search);
}

function showList(search) {
  $("list").replaceChildren(...state.mails.map(row));
  $("count").textContent = state.total || "";
  const empty = state.total === 0 && !search;
  $("nothing").hidden = state.total > 0 || !search;
  $("clear").disabled = empty;
  document.body.classList.toggle("empty-box", empty);
  document.title = state.total ? `Mailbox (${state.total})` : "Mailbox";
  if (empty) close();
  $("empty").hidden = !empty;
  $("choose").hidden = empty || state.chosen !== null;
}

function row(mail) {
  const button = element("button", "");
  button.type = "button";
  button.classList.toggle("unread", !state.read.has(mail.id));
  if (mail.id === state.chosen) button.setAttribute("aria-current", "true");
  button.append(
    element("span", mail.to.join(", "), "to"),
    element("span", when(mail.received_at), "at"),
    element("span", mail.subject || "(no subject)", "subject"),
    element("span", mail.from ? `from ${mail.from}` : "from nobody (a bounce)", "from"),
  );
  button.addEventListener("click", () => (location.hash = mail.id));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

// ---- one mail

async function open(id) {
  const answer = await fetch(`/api/messages/${encodeURIComponent(id)}`);
  if (!answer.ok) return close();
  state.mail = await answer.json();
  state.chosen = id;
  markRead(id);
  showMail(state.mail);
  showList($("search").value.trim());
  document.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

function close() {
  state.chosen = state.mail = null;
  $("mail").hidden = true;
  document.body.classList.remove("reading");
  if (location.hash) history.replaceState(null, "", location.pathname);
}

function showMail(mail) {
  document.body.classList.add("reading");
  $("mail").hidden = false;
  $("subject").textContent = mail.subject || "(no subject)";
  $("envelope").replaceChildren(
    ...pairs([
      ["From", mail.from || "nobody (a bounce)"],
      ["To", mail.to.join(", ")],
      ["Received", `${when(mail.received_at, true)}, ${size(mail.size)}`],
    ]),
  );
  $("headers").replaceChildren(...pairs(Object.entries(mail.headers)));
  $("text").textContent = mail.text ?? "";
  $("source").textContent = "";
  $("raw").href = `/api/messages/${encodeURIComponent(mail.id)}/raw`;
  $("raw").download = `${mail.id}.eml`;
  $("attachments").hidden = mail.attachments.length === 0;
  $("attachments").textContent = "Attached: " + mail.attachments
    .map((one) => `${one.filename} (${one.content_type}, ${size(one.size)})`).join(" · ");
  tab("html").disabled = mail.html === null;
  tab("text").disabled = mail.text === null;
  const usable = state.tab && !tab(state.tab).disabled;
  choose(usable ? state.tab : mail.html !== null ? "html" : mail.text !== null ? "text" : "source");
}

function pairs(entries) {
  return entries.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
}

const tab = (name) => document.querySelector(`[data-tab="${name}"]`);

function choose(name) {
  for (const button of document.querySelectorAll("[data-tab]")) {
    const chosen = button.dataset.tab === name;
    button.setAttribute("aria-selected", String(chosen));
    $(button.dataset.tab).hidden = !chosen;
  }
  const path = `/api/messages/${encodeURIComponent(state.mail.id)}`;
  if (name === "html") $("html").contentWindow.location.replace(`${path}/html`);
  if (name === "source") showSource(path);
}

async function showSource(path) {
  const answer = await fetch(`${path}/source`);
  if (answer.ok && path.endsWith(encodeURIComponent(state.chosen ?? ""))) {
    $("source").textContent = await answer.text();
  }
}

// ---- what people and the server do

function step(by) {
  const at = state.mails.findIndex((mail) => mail.id === state.chosen);
  const next = state.mails[at < 0 ? 0 : at + by];
  if (next) location.hash = next.id;
}

async function clear() {
  if (!confirm("Delete all mails?")) return;
  await fetch("/api/messages", { method: "DELETE" });
  $("search").value = "";
  await refresh();
}

async function tellAddress() {
  const { ports } = await (await fetch("/healthz")).json();
  const host = location.hostname;
  $("smtp").textContent = `${host}:${ports.smtp}`;
  $("example").textContent = [
    "python3 - <<'END'",
    "import smtplib",
    `with smtplib.SMTP("${host}", ${ports.smtp}) as smtp:`,
    '    mail = "Subject: Hello\\n\\nIt works."',
    '    smtp.sendmail("me@example.org", "you@example.org", mail)',
    "END",
  ].join("\n");
}

function listen() {
  const live = (on) => {
    $("live").classList.toggle("on", on);
    $("live-text").textContent = on ? "live" : "connecting";
  };
  const events = new EventSource("/api/events");
  events.addEventListener("open", () => live(true));
  events.addEventListener("error", () => live(false));
  events.addEventListener("mailbox", () => refresh());
}

function follow() {
  const id = decodeURIComponent(location.hash.slice(1));
  if (id) open(id);
  else close(), showList($("search").value.trim());
}

let typing;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(refresh, 120);
});
$("clear").addEventListener("click", clear);
$("back").addEventListener("click", () => (location.hash = ""));
for (const button of document.querySelectorAll("[data-tab]")) {
  button.addEventListener("click", () => choose((state.tab = button.dataset.tab)));
}
window.addEventListener("hashchange", follow);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === $("search")) return;
  if (event.key === "j" || event.key === "ArrowDown") step(1);
  else if (event.key === "k" || event.key === "ArrowUp") step(-1);
  else if (event.key === "/") $("search").focus();
  else return;
  event.preventDefault();
});

await tellAddress();
await refresh();
follow();
listen();
