// Keeps a page of runs up to date: pieces with an id, as they change. Without it the page is whole,
// and stays as it was when it was loaded.

const main = document.querySelector("#main");
const news = document.querySelector("#news");
let source = null;
const FOCUSABLE = "a, summary, input, button, textarea, select, [tabindex]";

// The details of a piece, by what their summaries say without its numbers, and their place among equals.
function named(element) {
  const found = new Map();
  for (const each of element.querySelectorAll("details")) {
    const said = each.querySelector("summary").textContent.replace(/\d/g, "");
    let place = 0;
    while (found.has(`${said} ${place}`)) place += 1;
    found.set(`${said} ${place}`, each);
  }
  return found;
}

function replace(element) {
  const old = document.getElementById(element.id);
  if (!old || old.dataset.hash === element.dataset.hash) return;
  const before = named(old);
  for (const [name, each] of named(element)) {
    if (before.has(name)) each.open = before.get(name).open;
  }
  for (const box of old.querySelectorAll("input:checked")) {
    const fresh = element.querySelector(`input[name="${box.name}"]`);
    if (fresh) fresh.checked = true;
  }
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const place = focused && [...old.querySelectorAll(FOCUSABLE)].indexOf(focused);
  old.replaceWith(element);
  if (focused) [...element.querySelectorAll(FOCUSABLE)][place]?.focus({preventScroll: true});
}

function arrange(container, ids, fresh) {
  ids.forEach((id, place) => {
    const element = document.getElementById(id) || fresh.get(id);
    if (element && container.children[place] !== element) container.insertBefore(element, container.children[place] || null);
  });
  while (container.children.length > ids.length) container.lastChild.remove();
}

function take(message) {
  const fresh = new Map();
  for (const part of message.parts) {
    const element = build(part);
    fresh.set(element.id, element);
    replace(element);
  }
  for (const [name, ids] of Object.entries(message.order)) arrange(document.getElementById(name), ids, fresh);
  if (message.news && news.textContent !== message.news) news.textContent = message.news;
  if (message.title) document.title = message.title;
  if (message.end) close();
}

function close() {
  source?.close();
  source = null;
}

function open() {
  if (source || !main.dataset.events) return;
  source = new EventSource(main.dataset.events);
  source.onmessage = (event) => take(JSON.parse(event.data));
}

// A browser keeps few connections to one host: pages that nobody sees give theirs back.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
addEventListener("pagehide", close);
for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("change", (event) => event.target.matches("select") && form.requestSubmit());
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
  });
}
openLinked();
if (!document.hidden) open();
