"use strict";
// Elements from the JSON that templates become: texts reach the page as text nodes only.

const DRAWN = new Set(["svg", "g", "path", "circle", "line", "polyline", "text", "title", "desc", "rect", "a"]);

function build([tag, attributes, children], drawing = false) {
  const drawn = tag === "svg" || (drawing && DRAWN.has(tag));
  const element = drawn
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const child of children) element.append(typeof child === "string" ? child : build(child, drawn));
  return element;
}

// What an address names is of no use in a closed box.
function openLinked() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const own = target.matches("details, #runs > li") ? target.querySelector("summary")?.parentElement : null;
  if (own) own.open = true;
  for (let each = target.closest("details"); each; each = each.parentElement.closest("details")) each.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", openLinked);
// A second click on the same dot changes no address.
addEventListener("click", (event) => {
  if (event.target.closest?.("a")?.getAttribute("href") === location.hash) openLinked();
});
