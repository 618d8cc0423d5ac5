// A book without our library, for Node (npm install zeromq):  node reader.mjs RUN_DIR lighter BTC-PERP
// Times are nanoseconds beyond 2^53: JSON.parse rounds them to 256 ns, which only matters if you compute with them.
import { Subscriber } from "zeromq";

const [runDir, venue, symbol] = process.argv.slice(2);
const topic = `book.${venue}.${symbol}`;
const socket = new Subscriber({ reconnectInterval: 10, linger: 0 });
socket.subscribe(topic, `heartbeat.${venue}`, `status.${venue}`);
socket.connect(`ipc://${runDir}/${venue}.feed`);

const ask = () => { socket.subscribe(topic); socket.unsubscribe(topic); }; // the worker answers every subscription
let [epoch, last, usable, heard] = [0, 0, false, Date.now()];
let [bids, asks] = [new Map(), new Map()]; // a level is its value, never its text
setInterval(() => { if (Date.now() - heard > 3000) usable = false; }, 200); // no heartbeat: no book may be used

for await (const [name, payload] of socket) {
  const event = JSON.parse(payload.toString());
  if (event.epoch < epoch) continue; // a publisher that should be dead
  if (event.epoch > epoch) [epoch, last, usable] = [event.epoch, 0, false]; // the worker started anew
  if (event.kind === "heartbeat") {
    heard = Date.now();
    if ((event.seqs[topic] ?? 0) > last) [last, usable] = [event.seqs[topic], false]; // the tail was lost
    if (!usable && event.books[symbol]?.usable) ask();
  }
  if (name.toString() !== topic || event.seq <= last) continue;
  if (last && event.seq > last + 1) usable = false; // something was lost
  last = event.seq;
  if (event.kind === "gap") {
    usable = false;
  } else if (event.kind === "book_snapshot") {
    bids = new Map(event.bids.map((level) => [Number(level[0]), level]));
    asks = new Map(event.asks.map((level) => [Number(level[0]), level]));
    usable = !event.flags.includes("rest") && !event.flags.includes("crossed_by_venue");
  } else if (usable) {
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
