// Uses the official npm client as its own documentation does, against whatever base URL is given.
// Says what it got as one JSON value a line.

import { once } from "node:events";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

import Replicate, { validateWebhook } from "replicate";

const [LLAMA, SCHNELL, DEV] = [
  "meta/meta-llama-3-70b-instruct",
  "black-forest-labs/flux-schnell",
  "black-forest-labs/flux-dev",
];
const replicate = new Replicate({ auth: "r8_any", baseUrl: process.argv[2] });

function say(event, line) {
  console.log(JSON.stringify({ event, ...line }));
}

async function run() {
  const written = await replicate.run(LLAMA, { input: { prompt: "Hello" } });
  const drawn = await replicate.run(SCHNELL, {
    input: { prompt: "a boat", num_outputs: 2 },
    wait: { mode: "poll", interval: 5 },
  });
  const picture = await (await fetch(drawn[1])).arrayBuffer();
  say("run", { text: written.join(""), pictures: drawn.length, bytes: picture.byteLength });
}

async function stream() {
  const events = [];
  const input = { prompt: "Tell me about the sea. [[tokens=30]]" };
  for await (const event of replicate.stream(LLAMA, { input })) {
    events.push(event);
  }
  say("stream", { names: events.map(({ event }) => event), text: events.join("") });
}

async function predictions() {
  const created = await replicate.predictions.create({ model: LLAMA, input: { prompt: "x" } });
  const ended = await replicate.wait(created, { interval: 5 });
  const hanging = await replicate.predictions.create({
    model: SCHNELL,
    input: { prompt: "x [[hang]]" },
  });
  const canceled = await replicate.predictions.cancel(hanging.id);
  const got = await replicate.predictions.get(ended.id);
  const ids = [];
  for await (const page of replicate.paginate(replicate.predictions.list)) {
    ids.push(...page.map(({ id }) => id));
  }
  say("predictions", {
    statuses: [created.status, ended.status, canceled.status],
    same: JSON.stringify(got.output) === JSON.stringify(ended.output),
    listed: ids.includes(created.id) && ids.includes(hanging.id),
  });
}

async function files() {
  const content = new File(["not a picture"], "boat.png", { type: "image/png" });
  const file = await replicate.files.create(content, { order: 7 });
  const got = await replicate.files.get(file.id);
  const listed = (await replicate.files.list()).results.map(({ id }) => id);
  const output = await replicate.run(DEV, { input: { prompt: "x", image: content } });
  const deleted = await replicate.files.delete(file.id);
  say("files", {
    name: got.name,
    type: got.content_type,
    size: got.size,
    metadata: got.metadata,
    listed: listed.includes(file.id),
    pictures: output.length,
    deleted,
  });
}

async function webhooks() {
  const { key } = await replicate.webhooks.default.secret.get();
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const statuses = [];
  const valid = [];
  const ended = new Promise((resolve, reject) => {
    server.on("request", async (request, response) => {
      try {
        const { headers } = request;
        const body = await text(request);
        valid.push(await validateWebhook({ headers, body }, key));
        valid.push(await validateWebhook({ headers, body: `${body} ` }, key));
        response.end();
        statuses.push(JSON.parse(body).status);
        if (statuses.at(-1) === "succeeded") resolve();
      } catch (error) {
        reject(error);
      }
    });
  });
  await replicate.predictions.create({
    model: LLAMA,
    input: { prompt: "x" },
    webhook: `http://127.0.0.1:${server.address().port}/hook`,
    webhook_events_filter: ["start", "completed"],
  });
  await ended;
  server.close();
  server.closeAllConnections();
  say("webhooks", { statuses, valid });
}

async function models() {
  const model = await replicate.models.get("black-forest-labs", "flux-schnell");
  const found = (await replicate.models.search("flux schnell")).results;
  const versions = await replicate.models.versions.list("black-forest-labs", "flux-schnell");
  const shelf = await replicate.collections.get("text-to-image");
  const hardware = await replicate.hardware.list();
  const account = await replicate.accounts.current();
  const deployment = await replicate.deployments.get("sandbox", "image");
  const made = await replicate.deployments.predictions.create("sandbox", "image", {
    input: { prompt: "x" },
  });
  say("models", {
    name: model.name,
    found: found[0].name,
    version: versions.results[0].id === model.latest_version.id,
    shelf: shelf.models.length > 0,
    hardware: hardware.map(({ sku }) => sku),
    account: account.username,
    deployment: deployment.current_release.model === made.model,
  });
}

async function refusals() {
  try {
    await replicate.predictions.create({ model: SCHNELL, input: {} });
  } catch (error) {
    say("refused", { status: error.response.status, message: error.message });
  }
  try {
    await replicate.run(LLAMA, {
      input: { prompt: "x [[fail=E1001: out of memory]]" },
      wait: { mode: "poll", interval: 5 },
    });
  } catch (error) {
    say("failed", { message: error.message });
  }
}

for (const part of [run, stream, predictions, files, webhooks, models, refusals]) {
  await part();
}
