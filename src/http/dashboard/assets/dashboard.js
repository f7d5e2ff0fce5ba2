// Keeps the part of a page that changes up to date, by server-sent events.
"use strict";

// Makes `old` like `fresh`, and touches nothing else: what has the focus or is selected stays.
function update(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  updateChildren(old, fresh);
}

function updateChildren(old, fresh) {
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((node, index) => {
    if (index < before.length) update(before[index], node);
    else old.append(node);
  });
  before.slice(after.length).forEach((node) => node.remove());
}

function follow(region) {
  const state = document.getElementById("live-state");
  const tell = (text, name) => {
    if (!state || state.textContent === text) return;
    state.textContent = text;
    state.className = `pill ${name}`;
  };
  const source = new EventSource(`/dashboard/live/${region.dataset.live}`);
  source.onmessage = (event) => {
    const html = JSON.parse(event.data);
    updateChildren(region, new DOMParser().parseFromString(html, "text/html").body);
    tell("live", "fine");
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) tell("not live: load the page again", "critical");
    else tell("connecting", "warning");
  };
}

const region = document.querySelector("[data-live]");
if (region) follow(region);
