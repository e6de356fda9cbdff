// The bell: counts up while the page is open, and keeps a list of notifications on the page current.
"use strict";

(() => {
  const bell = document.querySelector("[data-bell]");
  if (!bell || !("WebSocket" in window)) return;

  const label = bell.querySelector("[data-bell-count]");
  const status = document.querySelector("[data-bell-status]");
  const list = document.querySelector("[data-notifications]:not([data-older])");
  const form = document.querySelector("[data-notification-form]");
  const VERSION = 2;
  const BACK_OFF = { first: 500, most: 30000 }; // milliseconds
  const SESSION_OVER = 4401;
  const TOGETHER = 3600000; // milliseconds: equal notifications of an hour are one row
  const REMEMBER = 1000; // event ids, to show nothing twice

  let count = Number(label.textContent) || 0;
  let latest = Number(bell.dataset.latest) || 0; // everything up to this sequence is known here
  let pause = BACK_OFF.first;
  let socket = null;
  let timer = null;
  let fetching = false;
  const seen = new Set();

  function show(number) {
    if (typeof number !== "number") return;
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

  // -- the list ---------------------------------------------------------------------------------

  const numbers = (text) => (text || "").split(" ").filter(Boolean).map(Number);

  function line(item) {
    const text = document.createElement(item.url ? "a" : "span");
    if (item.url) text.href = item.url;
    text.textContent = item.message;
    const time = document.createElement("time");
    time.dateTime = item.time;
    time.textContent = new Date(item.time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    return [text, " ", time];
  }

  // Rows are drawn in one go before the next picture: a hundred that come at once cost no more than one.
  let waiting = [];
  function prepend(item) {
    if (!list) return;
    if (waiting.push(item) === 1) window.setTimeout(draw, 0);
  }

  function draw() {
    const items = waiting;
    waiting = [];
    for (const item of items) insert(item);
    const newest = document.querySelector("[data-notifications-newest]");
    if (newest) newest.value = String(Math.max(latest, Number(newest.value)));
    document.querySelector("[data-notifications-empty]")?.remove();
  }

  function insert(item) {
    const key = [item.kind, item.action, item.resource, item.actor].join("|");
    const old = [...list.children].find((row) => row.dataset.group === key);
    const together = old && new Date(item.time) - new Date(old.dataset.oldest || old.dataset.newest) <= TOGETHER;
    const row = document.createElement("li");
    row.className = "notification unread arrived";
    row.dataset.group = key;
    row.dataset.newest = item.time;
    row.dataset.oldest = together ? old.dataset.oldest || old.dataset.newest : item.time;
    row.dataset.sequences = [item.sequence, ...(together ? numbers(old.dataset.sequences) : [])].join(" ");
    row.dataset.unread = [item.sequence, ...(together ? numbers(old.dataset.unread) : [])].join(" ");
    const text = document.createElement("div");
    text.className = "notification-text";
    const mark = document.createElement("span");
    mark.className = "visually-hidden";
    mark.dataset.mark = "";
    mark.textContent = "(unread)";
    text.append(...line(item), " ", mark);
    if (together) {
      const details = old.querySelector("details") || document.createElement("details");
      const rows = details.querySelector("ol") || document.createElement("ol");
      const before = document.createElement("li");
      before.append(...[...old.querySelectorAll(":scope > .notification-text > :is(a, span:not([data-mark]), time)")].flatMap((node) => [node, " "]));
      rows.prepend(before);
      const summary = details.querySelector("summary") || document.createElement("summary");
      summary.textContent = `and ${rows.children.length} more like it`;
      details.replaceChildren(summary, rows);
      text.append(details);
    }
    row.append(text);
    if (form) {
      const made = form.content.cloneNode(true);
      made.querySelector(".visually-hidden").textContent = `: ${item.message}`;
      for (const number of numbers(row.dataset.unread)) {
        const input = document.createElement("input");
        input.type = "hidden";
        input.name = "sequence";
        input.value = String(number);
        made.querySelector("form").append(input);
      }
      row.append(made);
    }
    const focused = old && together && old.contains(document.activeElement);
    if (together) old.remove();
    list.prepend(row);
    if (focused) row.querySelector("a, button, summary")?.focus();
  }

  function markRead(upTo, sequences) {
    if (waiting.length) draw();
    const listed = new Set(sequences);
    for (const row of document.querySelectorAll("[data-unread]")) {
      const left = numbers(row.dataset.unread).filter((number) => number > upTo && !listed.has(number));
      row.dataset.unread = left.join(" ");
      if (left.length) continue;
      row.classList.remove("unread");
      const mark = row.querySelector("[data-mark]");
      if (mark) mark.hidden = true;
      const button = row.querySelector("form");
      if (button && button.contains(document.activeElement)) document.querySelector("main h1")?.focus();
      button?.remove();
    }
  }

  // -- what comes --------------------------------------------------------------------------------

  function take(item) {
    if (seen.has(item.event)) return;
    remember(item.event);
    prepend(item);
    status.textContent = item.message;
    bell.dispatchEvent(new CustomEvent("notification", { bubbles: true, detail: item }));
  }

  function receive(frame, fetched = false) {
    if (frame.version !== VERSION) return;
    if (frame.type === "notification") {
      if (frame.sequence > latest + 1) {
        fetchMissed(); // a number is missing: ask for what lies between, this one included
        return;
      }
      if (frame.sequence <= latest) return;
      latest = frame.sequence;
      take(frame);
      show(typeof frame.count === "number" ? frame.count : count + 1);
    } else if (frame.type === "unread") {
      for (const item of frame.missed) if (item.sequence > latest) take(item);
      latest = fetched ? Math.max(latest, frame.sequence) : frame.sequence;
      show(frame.count);
    } else if (frame.type === "read") {
      markRead(frame.up_to, frame.sequences);
      show(frame.count);
    }
  }

  async function fetchMissed() {
    if (fetching) return;
    fetching = true;
    try {
      for (let before = -1; before !== latest; ) {
        before = latest;
        const url = new URL(bell.dataset.after, window.location.href);
        url.searchParams.set("after", String(latest));
        const answer = await fetch(url, { credentials: "same-origin", redirect: "error" });
        if (!answer.ok) throw new Error(String(answer.status));
        receive(await answer.json(), true);
      }
    } catch {
      socket?.close(); // the next socket begins with what is missing
    } finally {
      fetching = false;
    }
  }

  // -- the socket --------------------------------------------------------------------------------

  function connect() {
    timer = null;
    const url = new URL(bell.dataset.socket, window.location.href);
    url.protocol = window.location.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("after", String(latest));
    url.searchParams.set("person", bell.dataset.person);
    const made = new WebSocket(url);
    socket = made;
    made.addEventListener("open", () => {
      bell.dataset.state = "live";
    });
    made.addEventListener("message", (event) => {
      if (socket !== made) return;
      pause = BACK_OFF.first;
      let frame;
      try {
        frame = JSON.parse(event.data);
      } catch {
        return;
      }
      receive(frame);
    });
    made.addEventListener("close", (event) => {
      if (socket !== made) return;
      socket = null;
      bell.dataset.state = event.code === SESSION_OVER ? "over" : "away";
      if (event.code === SESSION_OVER) {
        status.textContent = "You are signed out.";
        return;
      }
      wait();
    });
  }

  function wait() {
    if (timer !== null) return;
    timer = window.setTimeout(connect, pause * (0.5 + Math.random() / 2));
    pause = Math.min(pause * 2, BACK_OFF.most);
  }

  // A page that the browser brings back from its cache, or a network that returns, need not wait. Nor is a
  // socket to be trusted that was open meanwhile: without a network nobody heard whether it ended.
  function renew() {
    if (bell.dataset.state === "over") return;
    window.clearTimeout(timer);
    pause = BACK_OFF.first;
    const old = socket;
    connect();
    old?.close();
  }
  window.addEventListener("online", renew);
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) renew();
  });

  show(count);
  connect();
})();
