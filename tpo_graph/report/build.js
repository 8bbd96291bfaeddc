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
