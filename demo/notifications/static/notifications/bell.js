// The bell: counts up while the page is open, and keeps a list of notifications on the page current.
"use strict";

(() => {
  const bell = document.querySelector("[data-bell]");
  if (!bell || !("WebSocket" in window)) return;

  const label = bell.querySelector("[data-bell-count]");
  const status = document.querySelector("[data-bell-status]");
  const list = document.querySelector("[data-notifications]:not([data-older])");
  const BACK_OFF = { first: 500, most: 30000 }; // milliseconds
  const REMEMBER = 500; // event ids, to show nothing twice

  let count = Number(label.textContent) || 0;
  let latest = Number(bell.dataset.latest) || 0;
  let pause = BACK_OFF.first;
  let socket = null;
  let timer = null;
  const seen = new Set();
  if (list) {
    for (const item of list.querySelectorAll("[data-event]")) seen.add(item.dataset.event);
  }

  function show(number) {
    count = number;
    label.textContent = String(count);
    label.hidden = count === 0;
    document.title = document.title.replace(/^\(\d+\) /, "");
    if (count) document.title = `(${count}) ${document.title}`;
  }

  function remember(event) {
    seen.add(event);
    if (seen.size > REMEMBER) seen.delete(seen.values().next().value);
  }

  function prepend(item) {
    if (!list) return;
    const row = document.createElement("li");
    row.className = "notification unread arrived";
    row.dataset.event = item.event;
    const text = document.createElement(item.url ? "a" : "span");
    if (item.url) text.href = item.url;
    text.textContent = item.message;
    const time = document.createElement("time");
    time.dateTime = item.time;
    time.textContent = "just now";
    const mark = document.createElement("span");
    mark.className = "visually-hidden";
    mark.textContent = "(unread)";
    row.append(text, " ", time, " ", mark);
    list.prepend(row);
    const newest = document.querySelector("[data-notifications-newest]");
    if (newest) newest.value = String(latest);
    const empty = document.querySelector("[data-notifications-empty]");
    if (empty) empty.remove();
  }

  function take(item) {
    latest = Math.max(latest, item.id);
    if (seen.has(item.event)) return false;
    remember(item.event);
    prepend(item);
    status.textContent = item.message;
    return true;
  }

  function receive(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame.version !== 1) return;
    if (frame.type === "notification") {
      const isNew = take(frame);
      show(typeof frame.count === "number" ? frame.count : count + (isNew ? 1 : 0));
    } else if (frame.type === "unread") {
      frame.missed.forEach(take);
      show(frame.count);
    }
  }

  function connect() {
    timer = null;
    const url = new URL(bell.dataset.socket, window.location.href);
    url.protocol = window.location.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("after", String(latest));
    socket = new WebSocket(url);
    socket.addEventListener("open", () => {
      bell.dataset.state = "live";
    });
    socket.addEventListener("message", (event) => {
      pause = BACK_OFF.first;
      receive(event.data);
    });
    socket.addEventListener("close", () => {
      bell.dataset.state = "away";
      socket = null;
      wait();
    });
  }

  function wait() {
    if (timer !== null) return;
    timer = window.setTimeout(connect, pause * (0.5 + Math.random() / 2));
    pause = Math.min(pause * 2, BACK_OFF.most);
  }

  // A page that the browser brings back from its cache, or a network that returns, need not wait.
  function hurry() {
    if (socket !== null) return;
    window.clearTimeout(timer);
    pause = BACK_OFF.first;
    connect();
  }
  window.addEventListener("online", hurry);
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) hurry();
  });

  show(count);
  connect();
})();
