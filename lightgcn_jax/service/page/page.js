"use strict";
// Whatever comes from the run is put in by textContent, never as markup.

const LISTED = 10;
const WAIT = 150;
const byId = (id) => document.getElementById(id);
const picked = new Map();
const latest = new Map();
let about = null;

function element(kind, text, className) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function showError(message) {
  byId("error").textContent = message;
  byId("error").hidden = !message;
}

async function ask(path, body) {
  const given = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, given);
  } catch {
    throw new Error("The service does not answer. Is it still running?");
  }
  let value;
  try {
    value = await answer.json();
  } catch {
    throw new Error(`The service answered with status ${answer.status} and no JSON.`);
  }
  if (!answer.ok) throw new Error(`The service refuses: ${value.error}`);
  return value;
}

// Only the last of several questions of one kind counts: answers may come in another order.
async function newest(kind, work) {
  const mine = (latest.get(kind) || 0) + 1;
  latest.set(kind, mine);
  try {
    const found = await work();
    if (latest.get(kind) !== mine) return null;
    showError("");
    return found;
  } catch (error) {
    if (latest.get(kind) === mine) showError(error.message);
    return null;
  }
}

function shownNumber(value) {
  const size = Math.abs(value);
  return size >= 1000 ? value.toFixed(0) : size >= 0.01 || size === 0 ? value.toFixed(3) : value.toExponential(1);
}

function pictureOf(id) {
  const picture = element("img", undefined, "picture");
  picture.alt = "";
  picture.loading = "lazy";
  picture.addEventListener("error", () => picture.remove());
  picture.src = `/picture?item=${encodeURIComponent(id)}`;
  return picture;
}

function rowOf(item, largest) {
  const line = element("li");
  const row = element("div", undefined, "row");
  if (about.has_pictures) row.append(pictureOf(item.id));
  const name = element("span", item.title ?? String(item.id), "name");
  name.title = `id ${item.id}`;
  row.append(name);
  if (item.score !== undefined) {
    const meter = element("meter");
    meter.max = largest > 0 ? largest : 1;
    meter.value = Math.max(0, item.score);
    meter.setAttribute("aria-hidden", "true");
    row.append(meter, element("span", shownNumber(item.score), "score"));
  }
  const near = element("button", "Near");
  near.type = "button";
  near.setAttribute("aria-label", `Items near ${name.textContent}`);
  near.addEventListener("click", () => showNear(item));
  const pick = element("button", picked.has(item.id) ? "Picked" : "Pick");
  pick.type = "button";
  pick.dataset.pick = JSON.stringify(item.id);
  pick.setAttribute("aria-label", `Pick ${name.textContent}`);
  pick.setAttribute("aria-pressed", String(picked.has(item.id)));
  pick.addEventListener("click", () => toggle(item));
  row.append(near, pick);
  line.append(row);
  return line;
}

function fill(list, items) {
  const largest = Math.max(...items.map((one) => one.score ?? 0), 0);
  byId(list).replaceChildren(...items.map((one) => rowOf(one, largest)));
}

const SOURCES = { model: "by the model", popularity: "by popularity", nothing: "nothing" };

function sourceOf(answer) {
  if (answer.note) return `${answer.note[0].toUpperCase()}${answer.note.slice(1)}.`;
  return answer.items.length ? `Ranked ${SOURCES[answer.source]}.` : "Nothing is left to recommend.";
}

async function addReasons(list, items, whose) {
  if (!items.length) return;
  let reasons;
  try {
    reasons = await ask("/explain", { ...whose, explained: items.map((one) => one.id), k: 2 });
  } catch {
    return; // Not every model gives reasons.
  }
  const lines = byId(list).children;
  reasons.answers.forEach((one, at) => {
    const because = one.because.filter((reason) => reason.value > 0);
    if (!because.length || !lines[at]) return;
    const said = because.map((reason) => `${reason.title} (${shownNumber(reason.value)})`);
    const why = element("p", `because of ${said.join(" and ")}`, "why");
    why.title = `The number is ${reasons.number}.`;
    lines[at].append(why);
  });
}

async function toggle(item) {
  if (picked.has(item.id)) picked.delete(item.id);
  else if (picked.size < about.limits.ids) picked.set(item.id, item);
  for (const button of document.querySelectorAll("[data-pick]")) {
    const is = picked.has(JSON.parse(button.dataset.pick));
    button.setAttribute("aria-pressed", String(is));
    button.textContent = is ? "Picked" : "Pick";
  }
  byId("picked").replaceChildren(...[...picked.values()].map((one) => {
    const line = element("li");
    const button = element("button", `${one.title ?? one.id} ×`);
    button.type = "button";
    button.setAttribute("aria-label", `Take ${one.title ?? one.id} out`);
    button.addEventListener("click", () => toggle(one));
    line.append(button);
    return line;
  }));
  byId("picked-none").hidden = picked.size > 0;
  if (!picked.size) {
    latest.set("from", (latest.get("from") || 0) + 1);
    byId("from").replaceChildren();
    byId("from-note").textContent = "";
    return;
  }
  const items = [...picked.keys()];
  const k = Math.min(LISTED, about.limits.k);
  const answer = await newest("from", () => ask("/recommend-from", { items, k }));
  if (!answer) return;
  byId("from-note").textContent = sourceOf(answer);
  fill("from", answer.items);
  if (answer.source === "model") await addReasons("from", answer.items, { items });
}

async function showNear(item) {
  const k = Math.min(LISTED, about.limits.k);
  const path = `/similar?item=${encodeURIComponent(item.id)}&k=${k}`;
  const found = await newest("near", () => ask(path));
  if (!found) return;
  const [answer] = found.answers;
  byId("near-note").textContent = answer.note
    ? sourceOf(answer) : `Most like ${item.title ?? item.id}, by the cosine of their vectors.`;
  fill("near", answer.items);
  byId("near-title").scrollIntoView({ block: "nearest" });
}

async function search() {
  const text = byId("search").value;
  const k = Math.min(LISTED, about.limits.k);
  const path = `/items?search=${encodeURIComponent(text)}&k=${k}`;
  const found = await newest("search", () => ask(path));
  if (!found) return;
  fill("found", found.items);
  if (!found.items.length) byId("found").append(element("li", "No title has this in it.", "quiet"));
}

async function showUser(event) {
  event?.preventDefault();
  const user = byId("user").value.trim();
  if (!user) return;
  const k = Math.min(LISTED, about.limits.k);
  const name = encodeURIComponent(user);
  const both = await newest("user", () => Promise.all([
    ask(`/history?user=${name}`), ask(`/recommend?user=${name}&k=${k}`),
  ]));
  if (!both) return;
  const [history, { answers: [answer] }] = both;
  const shown = history.items.slice(0, LISTED);
  const all = history.count === shown.length ? "" : `, ${shown.length} of them here`;
  byId("history-count").textContent = `${history.count} items${all}`;
  fill("history", shown);
  byId("user-note").textContent = sourceOf(answer);
  fill("recommended", answer.items);
  if (answer.source === "model") await addReasons("recommended", answer.items, { user });
}

async function start() {
  about = await newest("about", () => ask("/about"));
  if (!about) {
    setTimeout(start, 2000); // It may still be loading.
    return;
  }
  const many = (count) => count.toLocaleString("en");
  byId("about").textContent =
    `${about.model}, ${many(about.users)} users, ${many(about.items)} items`;
  byId("users").replaceChildren(...about.example_users.map((one) => {
    const option = element("option");
    option.value = String(one);
    return option;
  }));
  let timer;
  byId("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, WAIT);
  });
  byId("user-form").addEventListener("submit", showUser);
  await search();
  if (about.example_users.length) {
    byId("user").value = String(about.example_users[0]);
    await showUser();
  }
  const plane = await newest("map", () => ask("/map"));
  if (plane) drawPlane(plane, showNear);
  document.body.dataset.ready = "yes";
}

start();
