// Filters, sorts and searches the list of queries, and builds packed texts when they are opened.
// Comes after build.js.

const list = document.querySelector("#runs");
const find = (id) => document.getElementById(id);

const blocks = new Map();

function block(id) {
  if (!blocks.has(id)) blocks.set(id, unpack(find(id).textContent));
  return blocks.get(id);
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

async function show(details) {
  const place = details.querySelector(":scope > [data-block]");
  if (!place || place.dataset.done) return;
  place.dataset.done = "yes";
  place.firstChild.textContent = "Unpacking…";
  try {
    const trajectories = await block(place.dataset.block);
    place.replaceChildren(build(trajectories[place.dataset.index]));
  } catch (error) {
    place.textContent = `This text cannot be shown here (${error}). A current browser can.`;
  }
}

const items = [...(list?.children ?? [])].map((item, order) => ({
  item,
  order,
  text: item.querySelector("summary").textContent.toLowerCase() + ` ${item.dataset.run}`,
  ...item.dataset,
}));

function select() {
  const words = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [field, wanted] = find("only").value.split(/:(.*)/s);
  let count = 0;
  for (const entry of items) {
    const kept = !field || (entry[field] || "") === wanted;
    entry.item.hidden = !(kept && words.every((word) => entry.text.includes(word)));
    count += !entry.item.hidden;
  }
  find("count").textContent = `${count.toLocaleString("en")} of ${items.length.toLocaleString("en")} shown`;
}

function sort() {
  const [field, direction] = find("sort").value.split(" ");
  const sign = direction === "down" ? -1 : 1;
  // What lacks the number comes last, whichever way.
  const key = (entry) => (entry[field] === undefined ? 1e300 : sign * Number(entry[field]));
  items.sort((a, b) => key(a) - key(b) || a.order - b.order);
  list.append(...items.map((entry) => entry.item));
}

addEventListener("toggle", (event) => event.target.open && show(event.target), true);
if (list) {
  find("search").addEventListener("input", select);
  find("only").addEventListener("change", select);
  find("sort").addEventListener("change", sort);
  find("controls").hidden = false;
  sort();
  select();
}
openLinked();
