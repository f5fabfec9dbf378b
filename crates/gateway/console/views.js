// The views of what the node holds, the tabs between them, and their keys.

import { Chart } from "./chart.js";
import { ageText, at, bytesText, count, make } from "./element.js";
import { Refused, View, get, post, put, table } from "./view.js";

const TABS = ["client", "node", "users", "groups", "inboxes"];

const number = (n) => (n < 10 && !Number.isInteger(n) ? n.toFixed(1) : Math.round(n).toLocaleString("en"));
const perSecond = (n) => `${number(n)}/s`;
const code = (text) => make("code", {}, text ?? "");
const ofTotal = (shown, total) => (shown < total ? `${number(shown)} of ${number(total)}` : number(total));
const more = (next, shown, show) => (next || shown
  ? [make("p", { class: "actions" },
    ...(shown ? [make("button", { type: "button", "data-page": "first", onclick: () => show("") }, "First page")] : []),
    ...(next ? [make("button", { type: "button", "data-page": next, onclick: () => show(next) }, "Next page")] : []))]
  : []);
const link = (text, act) => make("button", { type: "button", class: "link", onclick: act }, text);

// The node

const charts = {
  connections: new Chart("Sessions", number),
  subscriptions: new Chart("Subscriptions", number),
  received: new Chart("Messages in", perSecond),
  sent: new Chart("Messages out", perSecond),
  received_bytes: new Chart("Bytes in", (n) => `${bytesText(n)}/s`),
  sent_bytes: new Chart("Bytes out", (n) => `${bytesText(n)}/s`),
  queued_bytes: new Chart("Not yet written", bytesText),
};
let before = null;

function chart(view) {
  for (const name of ["connections", "subscriptions", "queued_bytes"]) charts[name].add(view[name]);
  const seconds = before && before.node === view.node ? (view.at - before.at) / 1000 : 0;
  if (seconds > 0) {
    for (const name of ["received", "sent", "received_bytes", "sent_bytes"]) {
      charts[name].add(Math.max(0, view.counted[name] - before.counted[name]) / seconds);
    }
  }
  before = view;
}

async function lookAtNode(stays) {
  const view = await get("node", { filter: at("node-filter").value });
  if (!stays()) return;
  chart(view);
  at("node-session-count").textContent = ofTotal(view.sessions.length, view.session_count);
  put("node-sessions", table(
    ["User", "Session", "Address", "Transport", "Subscriptions", "Waiting", "Since", "Client"],
    view.sessions.map((row) => [
      row.anonymous ? make("span", { class: "hint" }, "anonymous") : link(row.user, () => showUser(row.user)),
      code(row.id), row.address, row.transport, number(row.subscriptions ?? 0), bytesText(row.queued_bytes),
      row.since ? ageText(row.since, view.at) : "", make("span", { class: "cut", title: row.device ?? "" }, row.device ?? ""),
    ]), "No session."));
  at("node-destination-count").textContent = ofTotal(view.destinations.length, view.destination_count);
  put("node-destinations", table(["Destination", "Subscribers"],
    view.destinations.map((row) => [code(row.destination), number(row.subscribers)]), "Nobody is subscribed to any."));
  put("node-ended", table(["Reason", "Sessions"],
    Object.entries(view.ended).map(([reason, times]) => [reason, number(times)]), "None yet."));
}

// Users

const shown = { user: "", usersAfter: "", group: "", groupAfter: "", inboxUser: "", path: "", inboxAfter: "", knownAfter: "" };

function showUser(user) {
  shown.user = user;
  at("users-filter").value = user;
  select("users");
}

async function lookAtUsers(stays) {
  const user = shown.user;
  const [view, one] = await Promise.all([
    get("presence", { after: shown.usersAfter }), user ? get("user", { user }) : null,
  ]);
  if (!stays()) return;
  at("users-count").textContent = `${count(view.user_count, "user")}, ${count(view.session_count, "session")}`;
  put("users-list", table(["User", "Sessions"],
    view.users.map((row) => [link(row.user, () => showUser(row.user)), number(row.sessions)]), "Nobody is online."),
  ...more(view.next, shown.usersAfter, (after) => { shown.usersAfter = after; views.users.now(); }));
  at("nodes-count").textContent = ofTotal(view.nodes.length, view.node_count);
  put("nodes-list", table(["Node", "Sessions", ""], view.nodes.map((row) => [
    code(row.node), row.sessions === null ? "not registered" : number(row.sessions),
    [row.this && "this one", row.draining && "stopping", !row.heard && "not heard of"].filter(Boolean).join(", "),
  ]), "No node."));
  at("user-card").hidden = one === null;
  if (one) {
    at("user-title").textContent = one.user;
    const sessions = table(["Session", "Node", "Address", "Since", "Client"], one.sessions.map((row) => [
      code(row.id), code(row.node), row.address, ageText(row.since), make("span", { class: "cut", title: row.device }, row.device),
    ]), "Not online.");
    const facts = [
      one.groups.length > 0
        ? make("p", {}, "In the groups ", ...one.groups.flatMap((group) => [link(group, () => showGroup(group)), " "]))
        : make("p", { class: "hint" }, "In no group."),
      ...(one.banned_seconds === null ? [] : [make("p", {}, `Banned for another ${number(one.banned_seconds)} s.`)]),
      make("p", {}, link("What waits in the inboxes", () => showInboxes(one.user))),
    ];
    put("user-detail", sessions, ...facts);
  }
}

// Groups

function showGroup(group) {
  shown.group = group;
  shown.groupAfter = "";
  at("groups-filter").value = group;
  select("groups");
}

async function lookAtGroups(stays) {
  const group = shown.group;
  const [view, one] = await Promise.all([
    get("groups"), group ? get("group", { group, after: shown.groupAfter }) : null,
  ]);
  if (!stays()) return;
  at("groups-count").textContent = ofTotal(view.groups.length, view.group_count);
  put("groups-list", table(["Group"], view.groups.map((name) => [link(name, () => showGroup(name))]),
    "None. A group is there while it has members, and there is no list of all: name one."));
  at("group-card").hidden = one === null;
  if (one) {
    at("group-title").textContent = `${one.group}: ${count(one.member_count, "member")}`;
    put("group-detail", table(["Member", ""], one.members.map((row) => (row.user
      ? [link(row.user, () => showUser(row.user)), "user"]
      : [code(row.session), `session of node ${row.node}`])), "Nobody is in it."),
    ...more(one.next, shown.groupAfter, (after) => { shown.groupAfter = after; views.groups.now(); }));
  }
}

// Inboxes

function showInboxes(user) {
  Object.assign(shown, { inboxUser: user, path: "", inboxAfter: "" });
  at("inboxes-filter").value = user;
  select("inboxes");
}

function showInbox(path) {
  Object.assign(shown, { path, inboxAfter: "" });
  views.inboxes.now();
}

async function lookAtInboxes(stays) {
  const { inboxUser: user, path } = shown;
  const [known, of] = await Promise.all([
    get("inboxes", { after: shown.knownAfter }), user ? get("inboxes", { user }) : null,
  ]);
  const open = path || (of?.inboxes.length === 1 ? of.inboxes[0].path : "");
  const one = user && open ? await get("inbox", { user, path: open, after: shown.inboxAfter }) : null;
  if (!stays()) return;
  put("inboxes-users", table(["User"], known.users.map((name) => [link(name, () => showInboxes(name))]), "None yet."),
    ...more(known.next, shown.knownAfter, (after) => { shown.knownAfter = after; views.inboxes.now(); }));
  at("inboxes-card").hidden = of === null;
  if (of) {
    at("inboxes-title").textContent = `Inboxes of ${of.user}`;
    put("inboxes-list", table(["Destination", "Pending", "Delivered", "Scheduled", "Failed", "Size", "Oldest"],
      of.inboxes.map(({ path: name, count: held }) => [
        link(name, () => showInbox(name)), number(held.pending), number(held.delivered), number(held.scheduled),
        number(held.failed), bytesText(held.bytes), held.oldest ? ageText(held.oldest) : "",
      ]), "Nothing waits."));
  }
  at("inbox-card").hidden = one === null;
  if (one) {
    Object.assign(shown, { path: open });
    at("inbox-title").textContent = `${open} of ${user}: ${count(one.count.messages, "message")}`;
    put("inbox-messages", table(["Message", "Body", "State", "Attempts", "Stored", "Expires in", "Size", ""],
      one.messages.map((row) => [
        code(row.id), make("code", { class: "cut", title: row.beginning }, row.beginning), make("span", { class: `state-of ${row.status.state}` }, row.status.state), number(row.status.attempts),
        ageText(row.appended), ageText(Date.now(), row.expires_at), bytesText(row.bytes),
        make("button", { type: "button", class: "link", "aria-label": `Drop ${row.id}`,
          onclick: () => purge(user, open, [row.id]) }, "drop"),
      ]), "Nothing waits."),
    ...more(one.next, shown.inboxAfter, (after) => { shown.inboxAfter = after; views.inboxes.now(); }));
    at("inbox-purge").hidden = one.count.messages === 0;
  }
}

/** How a message stands, also one that has left its inbox. */
async function lookAtStatus(submit) {
  submit.preventDefault();
  const id = at("status-id").value.trim();
  try {
    const { status } = await get("status", { user: shown.inboxUser, path: shown.path, id });
    at("status-said").textContent = status
      ? `${status.state} since ${ageText(status.since)}, ${count(status.attempts, "attempt")}`
      : "Not known here, or no longer.";
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    at("status-said").textContent = error.message;
  }
}

async function purge(user, path, ids) {
  const what = ids ? "this message" : `all that waits at ${path}`;
  if (!confirm(`Drop ${what} for ${user}? Nobody gets it then.`)) return;
  try {
    await post("purge", ids ? { user, path, ids } : { user, path });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    alert(error.message);
  }
  views.inboxes.now();
}

// The login

function askForLogin() {
  if (!at("entrance").open) at("entrance").showModal();
}

function showLoggedIn(user) {
  at("log-out").hidden = !user;
  at("log-out").title = user ? `Logged in as ${user}` : "";
}

async function logIn(submit) {
  submit.preventDefault();
  const token = at("entrance-token").value.trim();
  const shows = token ? { token } : { login: at("entrance-login").value, passcode: at("entrance-passcode").value };
  at("entrance-enter").disabled = true;
  try {
    const { user } = await post("login", shows);
    at("entrance-passcode").value = "";
    at("entrance-token").value = "";
    at("entrance-problem").hidden = true;
    at("entrance").close();
    showLoggedIn(user);
    views[selected]?.now();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    at("entrance-problem").textContent = error.message;
    at("entrance-problem").hidden = false;
  } finally {
    at("entrance-enter").disabled = false;
  }
}

async function logOut() {
  try {
    await post("logout", {});
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  }
  location.reload();
}

// Tabs and keys

const views = {
  node: new View("node", lookAtNode, askForLogin),
  users: new View("users", lookAtUsers, askForLogin),
  groups: new View("groups", lookAtGroups, askForLogin),
  inboxes: new View("inboxes", lookAtInboxes, askForLogin),
};
let selected = "client";

function select(name) {
  selected = name;
  for (const tab of TABS) {
    const chosen = tab === name;
    at(`tab-${tab}`).setAttribute("aria-selected", String(chosen));
    if (tab === "client") at(tab).hidden = !chosen;
    else views[tab].show(chosen);
  }
  history.replaceState(null, "", name === "client" ? location.pathname : `#${name}`);
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || at("entrance").open) return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (shown.user && selected === "users") { shown.user = ""; views.users.now(); }
    else if (shown.group && selected === "groups") { shown.group = ""; views.groups.now(); }
    else if (shown.inboxUser && selected === "inboxes") { Object.assign(shown, { inboxUser: "", path: "" }); views.inboxes.now(); }
    return;
  }
  if (typing) return;
  const tab = TABS[Number(event.key) - 1];
  if (tab) return select(tab);
  if (event.key === "/") {
    event.preventDefault();
    at(selected === "client" ? "subscribe-destination" : `${selected}-filter`).focus();
  }
}

/** Shows the tabs; what the node says of itself before anybody has logged in, or null. */
export async function begin() {
  at("node-charts").append(...Object.values(charts).map((one) => one.element));
  for (const tab of TABS) at(`tab-${tab}`).addEventListener("click", () => select(tab));
  document.addEventListener("keydown", key);
  at("node-filter").addEventListener("input", () => views.node.now());
  const form = (name, act) => at(`${name}-form`).addEventListener("submit", (submit) => {
    submit.preventDefault();
    act(at(`${name}-filter`).value.trim());
  });
  form("users", showUser);
  form("groups", showGroup);
  form("inboxes", showInboxes);
  at("inbox-purge").addEventListener("click", () => purge(shown.inboxUser, shown.path));
  at("status-form").addEventListener("submit", lookAtStatus);
  at("entrance-form").addEventListener("submit", logIn);
  at("entrance-cancel").addEventListener("click", () => at("entrance").close());
  at("log-out").addEventListener("click", logOut);
  const named = location.hash.slice(1);
  if (TABS.includes(named)) select(named);
  try {
    const about = await get("about");
    showLoggedIn(about.user);
    return about;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return null;
  }
}
