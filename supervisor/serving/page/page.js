// Status page: polls state.json once a second and shows it. Verdicts, reasons and all other words come from the server,
// which gives the same to `top`. Views are pure functions from a part of the state to elements; `morph` then changes
// only what differs, so that focus, scrolling, selected text and tooltips survive every update.

const POLL_MS = 1000;
const TIMEOUT_MS = 2500;
/** A state older than this is shown as lost: two polls were missed. */
const LOST_MS = 3000;

// --- elements

/** Show characters without a shape of their own, which could hide or reorder text, as escapes. */
const visible = (text) =>
  String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (one) => `\\u{${one.codePointAt(0).toString(16)}}`);

/** Return functions that create elements, by name: attributes (optional) and children; null and false are left out. */
const elementsOf = (namespace) =>
  new Proxy({}, {
    get: (_, name) => (...parts) => {
      const element = document.createElementNS(namespace, name);
      const attributes = parts[0]?.constructor === Object ? parts.shift() : {};
      for (const [key, value] of Object.entries(attributes)) {
        if (value != null && value !== false) element.setAttribute(key, visible(value));
      }
      const children = parts.flat(Infinity).filter((child) => child != null && child !== false);
      element.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
      return element;
    },
  });
const { a, article, b, dd, div, dl, dt, h3, li, p, span, table, tbody, td, th, thead, time, tr } =
  elementsOf("http://www.w3.org/1999/xhtml");
const { svg, path, rect, title } = elementsOf("http://www.w3.org/2000/svg");

/** Make a node equal to a fresh one with as few changes as possible. */
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    morphChildren(old, fresh);
  }
}

function morphChildren(old, fresh) {
  const kept = [...old.childNodes];
  const wanted = [...fresh.childNodes];
  wanted.forEach((child, place) => (place < kept.length ? morph(kept[place], child) : old.append(child)));
  kept.slice(wanted.length).forEach((child) => child.remove());
}

const byId = (id) => document.getElementById(id);
const show = (id, ...children) => morphChildren(byId(id), div(children));

// --- numbers

/** As the server: a unit is used until the next larger one would show at least 2. */
const UNITS = [[120, 1, "s"], [7200, 60, "min"], [172800, 3600, "h"], [Infinity, 86400, "d"]];

function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const [, size, unit] = UNITS.find(([limit]) => Math.round(seconds) < limit);
  return `${Math.round(seconds / size)} ${unit}`;
}

const ago = (seconds) => (seconds == null ? "" : `, ${duration(seconds)} ago`);
const milliseconds = (ms) => (ms == null ? "–" : `${ms.toFixed(ms < 9.95 ? 1 : 0)} ms`);
const percent = (share, places) => `${(share * 100).toFixed(places)} %`;
/** A price with more digits than a person reads. */
const shortened = (price) => (price.length > 9 ? Number(price).toPrecision(7) : price);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

// --- venues

/** Age against its limit: red once the limit is reached, empty without one. */
function bar(age, limit) {
  const share = age == null || limit == null ? 0 : Math.max(0, Math.min(1, age / limit));
  const level = share < 0.5 ? "live" : share < 1 ? "degraded" : "down";
  const width = `${(share * 100).toFixed(1)}%`;
  const hidden = { class: "bar", "aria-hidden": true };
  return svg(hidden, rect({ class: "track", width: "100%", height: 4 }), rect({ class: `fill-${level}`, width, height: 4 }));
}

/** Events a second, the newest at the right; scaled from 0 to its usual height, above which bursts are cut. */
function sparkline(rates) {
  const [width, height] = [120, 24];
  const usual = [...rates].sort((one, other) => one - other)[Math.floor(rates.length * 0.95)] ?? 0;
  const top = Math.max(1, usual * 1.3);
  const start = width - rates.length + 1;
  const y = (rate) => (height - 1 - (height - 2) * Math.min(1, rate / top)).toFixed(1);
  const points = rates.map((rate, place) => `${start + place} ${y(rate)}`);
  const line = `M${points.join("L")}`;
  const shape = { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": true };
  return svg(shape, points.length > 1 && [path({ class: "area", d: `${line}V${height}H${start}Z` }), path({ d: line })]);
}

/** Names of consumers, the first three alone. */
function readers(names) {
  const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
  return p({ class: "readers", title: names.join(", ") }, `read by ${names.slice(0, 3).join(", ")}${more}`);
}

const count = (value, label, isBad) => div(dd({ class: isBad && "bad" }, value), dt(label));

function venueCard(venue) {
  const { books, limit_s: limit } = venue;
  const rate = venue.events_per_s == null ? "–" : Math.round(venue.events_per_s);
  return article(
    { class: `card venue ${venue.kind}` },
    h3(venue.name, " ", span({ class: `ink-${venue.kind}` }, `${venue.sign} ${venue.word}`)),
    p({ class: "age" }, b(duration(venue.age_s)), " last book", limit && span(`, limit ${duration(limit)}`)),
    bar(venue.age_s, limit),
    div({ class: "rate" }, span(b(rate), " events/s"), sparkline(venue.rates)),
    dl(
      count(`${books.usable}/${books.wanted}`, "books", books.usable < books.wanted),
      count(venue.restarts, "restarts"),
      count(venue.reconnects, "reconnects"),
      count(venue.gaps, "gaps"),
    ),
    p({ class: "why", title: venue.reason && venue.reason + ago(venue.reason_ago_s) }, venue.why),
    venue.consumers.length > 0 && readers(venue.consumers),
  );
}

// --- last hour and what happened

const KINDS = {
  live: "live",
  degraded: "degraded",
  down: "down or starting",
  outage: "venue outage",
  person: "needs a person",
  stopped: "stopped",
  unwatched: "not watched",
};
/** A timeline in its own units; it is drawn as wide and as high as there is room. */
const [WIDE, HIGH] = [1000, 20];
/** Heights of blocks: all is well, or nobody watched; others are as high as there is room. */
const THIN = { live: 6, stopped: 2, unwatched: 2 };

function block(kind, from, to, text) {
  const height = THIN[kind] ?? HIGH - 4;
  const width = Math.max(0, to - from).toFixed(1);
  return rect({ class: `block block-${kind}`, x: from.toFixed(1), width, y: (HIGH - height) / 2, height }, title(text));
}

/** The whole hour, or less while nothing older is known. */
function rangeOf({ from, to, watched_since: watched }) {
  const seconds = [300, 900, 1800].find((shorter) => to - watched <= shorter) ?? to - from;
  return { from: to - seconds, to };
}

const stroke = (kind, x, text) =>
  path({ class: "mark", d: `M${x.toFixed(1)} ${kind === "exit" ? 0 : HIGH - 5}V${HIGH}` }, title(text));

function timeline({ venue, spans, marks, share_live: share }, { from, to }) {
  const x = (at) => Math.max(0, Math.min(1, (at - from) / (to - from))) * WIDE;
  const blocks = spans.map(([at, kind], place) => {
    const end = spans[place + 1]?.[0] ?? to;
    return block(kind, x(at), x(end), `${KINDS[kind] ?? kind} from ${clock(at)}, ${duration(end - at)}`);
  });
  const exits = marks.filter(([, kind]) => kind === "exit").length;
  const live = share == null ? "not watched" : `live ${percent(share, 1)} of the watched time`;
  const label = `${venue}: ${live}, ${plural(exits, "process end")}`;
  return div(
    { class: "timeline" },
    span(venue),
    svg(
      { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
      block("unwatched", 0, x(spans[0]?.[0] ?? to), KINDS.unwatched),
      blocks,
      marks.filter(([at]) => at >= from).map(([at, kind, text]) => stroke(kind, x(at), `${clock(at)} ${text}`)),
    ),
    b({ title: live }, share == null ? "–" : percent(share, share < 0.9995 ? 1 : 0)),
  );
}

function hour(lanes, range) {
  const seen = new Set(["live", "unwatched", ...lanes.flatMap(({ spans }) => spans.map(([, kind]) => kind))]);
  const key = (shape, text) => span(svg({ viewBox: `0 0 14 ${HIGH}`, "aria-hidden": true }, shape), text);
  const labels = [5, 4, 3, 2, 1].map((fifths) => span(`−${Math.round((fifths * (range.to - range.from)) / 300)} min`));
  return [
    lanes.map((of) => timeline(of, range)),
    div({ class: "axis", "aria-hidden": true }, labels, span("now")),
    p(
      { class: "legend" },
      Object.entries(KINDS).map(([kind, text]) => seen.has(kind) && key(block(kind, 1, 13, text), text)),
      key(stroke("exit", 7, ""), "process ended"),
      key(stroke("reconnect", 7, ""), "reconnect"),
    ),
  ];
}

function happened({ at, venue, text, reason }) {
  const utc = new Date(at * 1000).toISOString();
  return li({ title: reason }, time({ datetime: utc, title: utc }, clock(at)), b(venue), span(text));
}

// --- streams

const head = (columns) =>
  thead(tr(columns.map(([text, tooltip, name]) => th({ scope: "col", title: tooltip, class: name }, text))));
const rowHead = (child) => th({ scope: "row" }, child);
const bad = (text, colspan) => td({ class: "bad", colspan }, `■ ${text}`);

function streamCell(stream) {
  if (!stream) return td();
  const age = stream.age_s == null ? "no data yet" : `last data ${duration(stream.age_s)} ago`;
  const limit = stream.limit_s == null ? "no limit" : `limit ${duration(stream.limit_s)}`;
  const reason = stream.reason && `last reason ${stream.reason}${ago(stream.reason_ago_s)}`;
  const facts = [`${stream.state}: ${age}`, limit, plural(stream.reconnects, "reconnect"), reason].filter(Boolean);
  const cell = td({ class: stream.is_bad && "bad", title: facts.join(", ") });
  cell.append(stream.is_bad ? "■ " : "", visible(stream.word));
  return cell;
}

/** A venue's streams; one cell says why when none runs. */
function streamCells({ streams, kind, sign, word, why }, names) {
  if (streams.every((stream) => stream.state === "off")) {
    return td({ class: `ink-${kind}`, colspan: names.length }, `${sign} ${word}: ${why}`);
  }
  return names.map((name) => streamCell(streams.find((stream) => stream.name === name)));
}

function streamTable(venues, isSynchronised) {
  const names = [...new Set(venues.flatMap(({ streams }) => streams.map(({ name }) => name)))];
  const skew = isSynchronised === false ? "; this machine's clock is not synchronised" : "";
  return table(
    head([
      ["venue"],
      ...names.map((name) => [name.replaceAll("_", " ")]),
      ["from venue, p50", `books: exchange time to receive time${skew}`, "dim"],
      ["inside, p99", "books: receive time to publish time", "dim"],
    ]),
    tbody(
      venues.map((venue) =>
        tr(
          rowHead(venue.name),
          streamCells(venue, names),
          td({ class: "dim" }, milliseconds(venue.lag_ms)),
          td({ class: "dim" }, milliseconds(venue.handling_ms)),
        ),
      ),
    ),
  );
}

// --- prices, funding and one book

const COLUMNS = [
  ["bid"],
  ["ask"],
  ["bp", "spread in basis points of the middle", "wide"],
  ["funding 8 h", "rate for eight hours; positive: longs pay"],
  ["every", "the venue's own interval"],
  ["next", "time to the next payment"],
  ["mark", "mark price"],
  ["age", "since the last bid or ask"],
];

const best = (price, isBest) =>
  td({ class: isBest && "best" }, price ?? "–", isBest && span({ title: "best of all venues" }, " ◂"));

function priceRow(symbol, row, now) {
  const opens = { href: `#${row.venue}:${symbol}`, title: `ten levels of ${symbol} on ${row.venue}` };
  const own = row.funding == null ? null : `${percent(row.funding, 4)} for one interval`;
  return tr(
    rowHead(a({ ...opens, "aria-current": wantedBook() === opens.href.slice(1) }, row.venue)),
    row.why == null ? [best(row.bid, row.is_best_bid), best(row.ask, row.is_best_ask)] : bad(row.why, 2),
    td({ class: "wide" }, row.spread_bp?.toFixed(2) ?? (row.why == null ? "–" : "")),
    td({ title: own }, row.funding_8h == null ? "–" : percent(row.funding_8h, 4)),
    td({ class: "dim", title: own }, row.interval_s == null ? "–" : `${+(row.interval_s / 3600).toFixed(2)} h`),
    td({ class: "dim" }, duration(row.next_funding_at == null ? null : row.next_funding_at - now)),
    td({ title: row.mark }, row.mark == null ? "–" : shortened(row.mark)),
    td({ class: "dim" }, duration(row.age_s)),
  );
}

/** Ten levels of one book: bids at the left, asks at the right, sizes outside with bars. */
function ladder({ venue, symbol, bids, asks, age_s: age, why }) {
  const largest = Math.max(Number.MIN_VALUE, ...[...bids, ...asks].map(([, size]) => Number(size)));
  const depth = (size) =>
    svg({ class: "depth", "aria-hidden": true }, rect({ width: `${((100 * size) / largest).toFixed(0)}%`, height: "100%" }));
  const side = (level) => (level ? [td(depth(level[1]), level[1]), td(level[0])] : [td(), td()]);
  const rows = Array.from({ length: Math.max(bids.length, asks.length) }, (_, place) =>
    tr(side(bids[place]), side(asks[place]).reverse()),
  );
  return div(
    { class: "ladder" },
    h3(`${venue} ${symbol} `, age != null && span({ class: "dim" }, `${duration(age)} old`), a({ href: "#prices" }, "close")),
    why == null
      ? table(head([["bid size"], ["bid"], ["ask"], ["ask size"]]), tbody(rows))
      : p({ class: "bad" }, `■ ${why}`),
  );
}

const market = ({ symbol, rows, summary }, now, book) =>
  div(
    { class: "card" },
    div(
      { class: "table", tabindex: 0, role: "group", "aria-label": `Prices and funding of ${symbol}` },
      table(head([[symbol], ...COLUMNS]), tbody(rows.map((row) => priceRow(symbol, row, now)))),
    ),
    p({ class: "dim" }, summary),
    book?.symbol === symbol && ladder(book),
  );

// --- the whole page

/** Colours of the header, for the icon of the tab. */
const ICONS = { fine: "#00664b", heals: "#e69f00", person: "#b93a00", none: "#5b6470" };

function showVerdict({ level, sign, headline, detail }, about) {
  const icon = `<svg xmlns="http://www.w3.org/2000/svg"><circle cx="8" cy="8" r="8" fill="${ICONS[level]}"/></svg>`;
  document.title = visible(`${sign} ${headline}`);
  document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
  byId("verdict").className = visible(level);
  show("headline", span({ "aria-hidden": true }, `${sign} `), headline);
  show("detail", detail);
  show("about", about);
}

function showLost(seconds) {
  const detail = `this page shows the state of ${duration(seconds)} ago; feeds go on without it`;
  byId("main").className = "faded";
  showVerdict({ level: "none", sign: "■", headline: "No connection", detail }, "");
}

function showState(state) {
  const range = rangeOf(state.hour);
  const length = duration(range.to - range.from);
  const about = [state.is_simulated && "simulated venues", `up ${duration(state.uptime_s)}`, clock(state.at)];
  byId("main").className = "";
  showVerdict(state.verdict, about.filter(Boolean).join(" · "));
  show("venues", state.venues.map(venueCard));
  show("hour-title", `Last ${length === "60 min" ? "hour" : length}`);
  show("hour", hour(state.hour.lanes, range));
  show("events", state.events.length ? state.events.map(happened) : li("nothing yet"));
  show("streams", streamTable(state.venues, state.clock.synchronised));
  show("prices", state.prices.map((of) => market(of, state.at, state.book)));
  show("version", state.version);
}

/** Market whose book is open, from the address: `#lighter:BTC-PERP`; null for none. */
function wantedBook() {
  const name = location.hash.slice(1);
  return name.includes(":") ? name : null;
}

let version = null; // of the first state
let receivedAt = null; // last state, ms
let visibleSince = Date.now();
let nextPoll = null; // its timer; null while a poll is under way

async function fetchState() {
  const book = wantedBook();
  const query = book ? `?book=${encodeURIComponent(book)}` : "";
  const answer = await fetch(`state.json${query}`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}

/** Poll and plan the next poll: one request at a time, none while nobody sees the page. */
async function poll() {
  nextPoll = null;
  if (!document.hidden) {
    try {
      const state = await fetchState();
      version ??= state.version;
      if (state.version !== version) location.reload(); // upgraded: this page may not understand the new state
      showState(state);
      receivedAt = Date.now();
    } catch (error) {
      console.debug("no state:", error);
    }
  }
  nextPoll = setTimeout(poll, POLL_MS);
}

function pollNow() {
  if (nextPoll === null) return;
  clearTimeout(nextPoll);
  poll();
}

function noticeSilence() {
  const now = Date.now();
  if (document.hidden || receivedAt === null) return;
  if (now - Math.max(receivedAt, visibleSince) > LOST_MS) showLost((now - receivedAt) / 1000);
}

document.addEventListener("visibilitychange", () => {
  visibleSince = Date.now();
  if (!document.hidden) pollNow();
});
addEventListener("hashchange", pollNow);
setInterval(noticeSilence, POLL_MS / 2);
poll();
