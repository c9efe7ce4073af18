// A plain receiver in Node: node:http, and all deliveries that wait in one commit of SQLite.
//
//     node bench/peers/group.js FOLDER
//
// With better-sqlite3 where it is found (NODE_PATH names its folder), else Node's own node:sqlite (22.5 or newer).
"use strict";
const { createHash } = require("node:crypto");
const http = require("node:http");
const path = require("node:path");

function open(file) {
  try {
    return [new (require("better-sqlite3"))(file), "better-sqlite3"];
  } catch (error) {
    if (error.code !== "MODULE_NOT_FOUND") throw error;
    return [new (require("node:sqlite").DatabaseSync)(file), "node:sqlite"];
  }
}

const [database, driver] = open(path.join(process.argv[2], "deliveries.db"));
database.exec("PRAGMA journal_mode = WAL");
database.exec("PRAGMA synchronous = FULL");
database.exec("CREATE TABLE deliveries (position INTEGER PRIMARY KEY, received_at TEXT, source TEXT, body BLOB)");
const insert = database.prepare("INSERT INTO deliveries (received_at, source, body) VALUES (?, ?, ?)");
let waiting = [];

function commit() {
  const group = waiting;
  waiting = [];
  database.exec("BEGIN IMMEDIATE");
  const positions = group.map(({ source, body }) => insert.run(new Date().toISOString(), source, body).lastInsertRowid);
  database.exec("COMMIT");
  group.forEach(({ body, answer }, n) => {
    const sha256 = createHash("sha256").update(body).digest("hex");
    const text = JSON.stringify({ position: Number(positions[n]), sha256 });
    answer.writeHead(200, { "content-type": "application/json", "content-length": text.length });
    answer.end(text);
  });
}

const server = http.createServer((request, answer) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const source = request.url.split("/")[2];
    if (!waiting.length) setImmediate(commit);
    waiting.push({ source, body: Buffer.concat(chunks), answer });
  });
});
server.keepAliveTimeout = 75_000;
server.listen(0, "127.0.0.1", () => {
  console.error(driver);
  console.log(`http://127.0.0.1:${server.address().port}/webhooks/main/secret`);
});
