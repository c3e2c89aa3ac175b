// The parts of a gateway's page that Node lacks: EventSource, addresses relative to the page's own, its key, and
// that it stays open while nothing happens (the package's EventSource does not keep a process alive until it reconnects).

import { EventSource as NodeEventSource } from "eventsource";

const PAGE = process.env.TAILRACE;
const nodeFetch = globalThis.fetch;

globalThis.KEY = process.env.KEY;
globalThis.fetch = (address, options) => nodeFetch(new URL(address, PAGE), options);
globalThis.EventSource = class extends NodeEventSource {
  constructor(address, options) {
    super(new URL(address, PAGE), options);
  }
};

setInterval(() => {}, 60_000);
