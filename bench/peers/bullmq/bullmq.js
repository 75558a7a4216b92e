// BullMQ over ioredis: node bullmq.js ACTION URL CONCURRENCY JOBS prints JSON lines, see bench/peers/__init__.py.
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Queue, Worker } from "bullmq";

const QUEUE = "bench";
const PAYLOAD = "x".repeat(200);
const PACE_PER_S = 50;
const CHUNK = 1000;
// As many completed jobs as Callboard keeps by default; BullMQ's own default keeps them all.
const KEEP = { count: 1000 };

const [action, url, concurrency, jobs] = process.argv.slice(2);
const connection = { path: url.replace("unix://", ""), maxRetriesPerRequest: null };

// The clock that Python's time.monotonic() reads.
const monotonic = () => Number(process.hrtime.bigint()) / 1e9;
const say = (measured) => console.log(JSON.stringify(measured));

async function sending(send) {
  const queue = new Queue(QUEUE, { connection });
  await queue.waitUntilReady();
  try {
    return await send(queue);
  } finally {
    await queue.close();
  }
}

async function timed(send) {
  return sending(async (queue) => {
    const began = monotonic();
    await send(queue, Number(jobs));
    return { jobs_per_s: Number(jobs) / (monotonic() - began) };
  });
}

async function inChunks(total, send) {
  for (let start = 0; start < total; start += CHUNK) await send(Math.min(CHUNK, total - start));
}

async function oneByOne(queue, total) {
  for (let number = 0; number < total; number++) await queue.add("noop", { payload: PAYLOAD });
}

function bulk(queue, total) {
  return inChunks(total, (size) =>
    queue.addBulk(Array.from({ length: size }, () => ({ name: "noop", data: { payload: PAYLOAD } }))),
  );
}

function parallel(queue, total) {
  return inChunks(total, (size) =>
    Promise.all(Array.from({ length: size }, () => queue.add("noop", { payload: PAYLOAD }))),
  );
}

async function latency() {
  return sending(async (queue) => {
    const began = monotonic();
    for (let number = 0; number < Number(jobs); number++) {
      await sleep(Math.max(0, (began + number / PACE_PER_S - monotonic()) * 1000));
      await queue.add("probe", { payload: PAYLOAD, sent: monotonic() });
    }
    return { sent: Number(jobs) };
  });
}

async function work(options) {
  const starts = openSync(join(process.env.CALLBOARD_BENCH_FOLDER, "starts"), "a");
  const wait = Buffer.alloc(8);
  const processor = async (job) => {
    if (job.name !== "probe") return;
    wait.writeDoubleLE(monotonic() - job.data.sent);
    writeSync(starts, wait);
  };
  const worker = new Worker(QUEUE, processor, { connection, concurrency: Number(concurrency), ...options });
  worker.on("error", (error) => console.error(error));
  await worker.waitUntilReady();
  say({ ready: true });
  await new Promise((end) => worker.on("closed", end));
  closeSync(starts);
}

function version() {
  const manifest = new URL("./node_modules/bullmq/package.json", import.meta.url);
  return { version: JSON.parse(readFileSync(manifest)).version };
}

const actions = {
  version,
  enqueue: () => timed(oneByOne),
  bulk: () => timed(bulk),
  parallel: () => timed(parallel),
  latency,
  work: () => work({ removeOnComplete: KEEP }),
  "work-keep": () => work({}),
};

const measured = await actions[action]();
if (measured !== undefined) say(measured);
