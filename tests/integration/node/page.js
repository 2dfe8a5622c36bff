// Opens the broker's page as a browser does, as far as the page needs one: its script runs in a
// context of its own, its WebSocket carries the page's Origin, and every row it shows is printed as
// one line of JSON. It ends when as many rows were shown as it was asked for.
//
//     node page.js http://localhost:9464/ FILTER TOPIC MESSAGE ROWS
"use strict";
const http = require("http");
const vm = require("vm");
const { WebSocket } = require("ws");

const [address, filter, topic, message, rows] = process.argv.slice(2);
const origin = new URL(address).origin;
// Names below .example lead to this machine, as they do when somebody has rebound them.
const rebound = new URL(address).hostname.endsWith(".example");
const options = rebound ? { lookup } : {};
let left = Number(rows);

function lookup(_name, { all }, done) {
  const found = { address: "127.0.0.1", family: 4 };
  if (all) done(null, [found]);
  else done(null, found.address, found.family);
}

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function element(attributes) {
  return { textContent: "", disabled: true, rows: [], replaceChildren() {}, ...attributes };
}

function insertRow() {
  const cells = [];
  this.rows.unshift(cells);
  return { insertCell: () => cells[cells.push({ textContent: "" }) - 1] };
}

function open(html) {
  const elements = {
    filter: element({ value: filter }),
    topic: element({ value: topic }),
    message: element({ value: message }),
    retain: element({ checked: false }),
    messages: element({ insertRow }),
    state: element({}),
    listen: element({}),
    say: element({}),
  };
  const buttons = [element({}), element({})];
  function frame(show) {
    setImmediate(() => {
      const before = elements.messages.rows.length;
      show();
      const fresh = elements.messages.rows.slice(0, elements.messages.rows.length - before);
      for (const cells of fresh.reverse()) print(cells.map((cell) => cell.textContent).slice(1));
      left -= fresh.length;
      if (left <= 0) process.exit(0);
      if (before === 0) elements.say.onsubmit({ preventDefault() {} });
    });
  }
  class PageWebSocket extends WebSocket {
    constructor(url, protocol) {
      super(url, protocol, { ...options, origin });
      this.on("error", () => {}); // the page hears of it by onclose
      this.on("unexpected-response", (_request, response) => {
        response.setEncoding("utf8").on("data", (text) => {
          print([String(response.statusCode), text.trim()]);
          process.exit(0);
        });
      });
    }
  }
  const websocket = /data-websocket="([^"]*)"/.exec(html)[1].replaceAll("&amp;", "&");
  const [, script] = /<script>([^]*)<\/script>/.exec(html);
  vm.runInNewContext(script, {
    document: {
      body: { dataset: { websocket } },
      getElementById: (id) => elements[id],
      querySelectorAll: () => buttons,
    },
    location: new URL(address),
    requestAnimationFrame: frame,
    WebSocket: PageWebSocket,
    Date, TextDecoder, TextEncoder, Uint8Array, clearInterval, setInterval, setTimeout,
  });
  if (!websocket) {
    print([elements.state.textContent]);
    process.exit(0);
  }
}

http.get(address, options, (response) => {
  let html = "";
  response.setEncoding("utf8").on("data", (text) => (html += text)).on("end", () => open(html));
});
