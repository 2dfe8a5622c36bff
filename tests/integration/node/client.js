// An MQTT.js client that does what lines of JSON on standard input say, one after the other, and
// answers each with a line on standard output. What it receives is a line of its own.
"use strict";

const readline = require("node:readline");
const mqtt = require("mqtt");

let client = null;

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function connect({ url, clientId, clean, will }) {
  return new Promise((resolve, reject) => {
    client = mqtt.connect(url, {
      clientId,
      clean,
      will: will && { ...will, payload: Buffer.from(will.payload, "base64") },
      reconnectPeriod: 0,
      protocolVersion: 4,
    });
    client.on("message", (topic, payload, packet) => {
      const { qos, retain } = packet;
      say({ message: { topic, payload: payload.toString("base64"), qos, retain } });
    });
    client.once("connect", (connack) => resolve({ sessionPresent: connack.sessionPresent }));
    client.once("error", reject);
  });
}

const commands = {
  connect,
  subscribe: async ({ topic, qos }) => ({ granted: (await client.subscribeAsync(topic, { qos }))[0].qos }),
  publish: async ({ topic, payload, qos, retain }) => {
    await client.publishAsync(topic, Buffer.from(payload, "base64"), { qos, retain });
    return {};
  },
  disconnect: async () => {
    await client.endAsync();
    return {};
  },
};

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { command, ...parameters } = JSON.parse(line);
    try {
      say({ done: await commands[command](parameters) });
    } catch (error) {
      say({ failed: String(error) });
    }
  }
}

main();
