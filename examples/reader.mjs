// Order book without our library, for Node 20.15 (npm install zeromq):  node reader.mjs RUN_DIR lighter BTC-PERP
// Times and epochs are nanoseconds beyond 2^53: JSON.parse rounds them to 256 ns, so the epoch is read from the text.
import { crc32 } from "node:zlib";
import { Subscriber } from "zeromq";

const [runDir, venue, symbol] = process.argv.slice(2);
const topic = `book.${venue}.${symbol}`;
const socket = new Subscriber({ reconnectInterval: 10, linger: 0 });
socket.subscribe(topic, `heartbeat.${venue}`, `status.${venue}`, `consumer.reader-${process.pid}`); // the last names this program
socket.connect(`ipc://${runDir}/${venue}.feed`);

const requestSnapshot = () => { socket.subscribe(topic); socket.unsubscribe(topic); }; // the worker answers every subscription
const now = () => performance.now(); // monotonic: the time of day may be set
const epochIn = (text) => BigInt(/"epoch":(\d+)/.exec(text)[1]);
let [epoch, last, usable] = [0n, 0, false];
let [heard, alive] = [now(), now()]; // last heartbeat and last message of this epoch
let requested = now(); // a subscription is a request, also the one of a socket that reconnects
let [bids, asks] = [new Map(), new Map()]; // a level is its value, never its text
setInterval(() => { if (now() - heard > 3000) usable = false; }, 200); // no heartbeat: the book is unusable

const shortest = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text); // venues write plain decimals
const best = (side, order) => [...side.keys()].sort((a, b) => order * (a - b)).slice(0, 10).map((price) => side.get(price));
const written = (levels) => levels.map((level) => level.map(shortest).join(":")).join(",");
const checksum = () => crc32(`b:${written(best(bids, -1))};a:${written(best(asks, 1))}`);

for await (const [name, payload] of socket) {
  const event = JSON.parse(payload.toString());
  const current = epochIn(payload.toString());
  if (current < epoch && now() - alive < 5000) continue; // a publisher that should have exited
  if (current !== epoch) [epoch, last, usable, requested] = [current, 0, false, now()]; // the worker restarted
  alive = now();
  if (event.kind === "heartbeat") {
    heard = now();
    if ((event.seqs[topic] ?? 0) > last) [last, usable] = [event.seqs[topic], false]; // the tail was lost
    const theirs = event.books[symbol];
    if (usable && theirs?.seq === last) usable = theirs.usable && [null, checksum()].includes(theirs.crc32_top10);
    if (!usable && theirs?.usable && now() - requested >= 1500) {
      requested = now();
      requestSnapshot();
    }
  }
  if (name.toString() !== topic || event.seq <= last) continue;
  if (last && event.seq > last + 1) usable = false; // a message was lost
  last = event.seq;
  if (event.kind === "gap") {
    usable = false;
  } else if (event.kind === "book_snapshot") {
    bids = new Map(event.bids.map((level) => [Number(level[0]), level]));
    asks = new Map(event.asks.map((level) => [Number(level[0]), level]));
    [usable, requested] = [!event.flags.includes("rest") && !event.flags.includes("crossed_by_venue"), -Infinity];
  } else if (usable) { // changes before the first snapshot are ignored
    for (const [side, changes] of [[bids, event.bids], [asks, event.asks]]) {
      for (const level of changes) {
        if (Number(level[1]) === 0) side.delete(Number(level[0]));
        else side.set(Number(level[0]), level);
      }
    }
  }
  if (usable && bids.size && asks.size) {
    console.log(bids.get(Math.max(...bids.keys())).join(" "), asks.get(Math.min(...asks.keys())).join(" "), event.seq);
  }
}
