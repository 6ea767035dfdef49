"use strict";

// The data of the page, and short names for what the browser offers.
const page = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const byId = (name) => document.getElementById(name);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// An HTML element with attributes and children.
const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

// An SVG element with attributes and children.
const draw = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

function show(value, digits = 3) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.05) return "< 0.1";
  return value.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
}

// Saves a text that the page made as a file.
function save(name, type, content) {
  const link = make("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Fills a closed part of the page when it is first opened.
function fillWhenOpened(details, build) {
  const open = () => details.open && details.append(...build());
  details.addEventListener("toggle", open, { once: true });
  return details;
}
