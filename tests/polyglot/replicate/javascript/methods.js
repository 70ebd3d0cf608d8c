// Calls every method of the official npm client against whatever base URL is given.
// Says for each, as one JSON value a line, how it went.

import Replicate from "replicate";

const LLAMA = "meta/meta-llama-3-70b-instruct";
const SCHNELL = "black-forest-labs/flux-schnell";
const FLUX = ["black-forest-labs", "flux-schnell"];
const SDXL = ["stability-ai", "sdxl"];
const input = { prompt: "a boat" };
const replicate = new Replicate({ auth: "r8_any", baseUrl: process.argv[2] });
const make = (model = LLAMA) => replicate.predictions.create({ model, input });
const upload = () => replicate.files.create(new File(["hello"], "a.txt"));

// Whether the sandbox says that it has not got this.
async function isRefused(call) {
  try {
    await call();
  } catch (error) {
    return error.response?.status === 405;
  }
  return false;
}

async function collect(iterable) {
  const all = [];
  for await (const each of iterable) all.push(each);
  return all;
}

const cases = {
  "accounts.current": async () => (await replicate.accounts.current()).username === "sandbox",
  "collections.get": async () =>
    (await replicate.collections.get("text-to-image")).models.length > 0,
  "collections.list": async () => (await replicate.collections.list()).results.length > 3,
  "deployments.create": () =>
    isRefused(() => replicate.deployments.create({ name: "x", model: "a/b", version: "x" })),
  "deployments.delete": () => isRefused(() => replicate.deployments.delete("sandbox", "image")),
  "deployments.get": async () =>
    (await replicate.deployments.get("sandbox", "image")).current_release.model === FLUX.join("/"),
  "deployments.list": async () => (await replicate.deployments.list()).results.length === 4,
  "deployments.predictions.create": async () =>
    (await replicate.deployments.predictions.create("sandbox", "text", { input, wait: 5 })).output,
  "deployments.update": () =>
    isRefused(() => replicate.deployments.update("sandbox", "image", { min_instances: 1 })),
  "files.create": async () => (await upload()).size === 5,
  "files.delete": async () => replicate.files.delete((await upload()).id),
  "files.get": async () => (await replicate.files.get((await upload()).id)).name === "a.txt",
  "files.list": async () => {
    const { id } = await upload();
    return (await replicate.files.list()).results.some((each) => each.id === id);
  },
  "hardware.list": async () => (await replicate.hardware.list()).some(({ sku }) => sku === "cpu"),
  "models.create": () =>
    isRefused(() =>
      replicate.models.create("a", "b", { visibility: "private", hardware: "cpu" }),
    ),
  "models.get": async () => (await replicate.models.get(...FLUX)).default_example.output[0],
  "models.list": async () => (await replicate.models.list()).results.length > 10,
  "models.search": async () =>
    (await replicate.models.search("flux schnell")).results[0].name === "flux-schnell",
  "models.versions.get": async () => {
    const { results } = await replicate.models.versions.list(...SDXL);
    const version = await replicate.models.versions.get(...SDXL, results.at(-1).id);
    return version.openapi_schema.components.schemas.Input;
  },
  "models.versions.list": async () =>
    (await replicate.models.versions.list(...SDXL)).results.length === 4,
  paginate: async () => (await collect(replicate.paginate(replicate.models.list))).length > 3,
  "predictions.cancel": async () => {
    const hanging = await replicate.predictions.create({
      model: LLAMA,
      input: { prompt: "x [[hang]]" },
    });
    return (await replicate.predictions.cancel(hanging.id)).status === "canceled";
  },
  "predictions.create": async () => {
    const { results } = await replicate.models.versions.list(...SDXL);
    const version = results.at(-1).id;
    return (await replicate.predictions.create({ version, input, wait: true })).output[0];
  },
  "predictions.get": async () => (await replicate.predictions.get((await make()).id)).model === LLAMA,
  "predictions.list": async () => {
    const { id } = await make();
    return (await replicate.predictions.list()).results.some((each) => each.id === id);
  },
  request: async () => (await replicate.request("/account", {})).status === 200,
  run: async () => {
    const [file] = await replicate.run(SCHNELL, { input });
    const picture = await file.blob();
    return picture.type === "image/webp" && picture.size > 100 && file.url().protocol === "https:";
  },
  stream: async () => {
    const text = (await collect(replicate.stream(LLAMA, { input }))).join("");
    const pictures = await collect(replicate.stream(SCHNELL, { input }));
    const file = await pictures[0].data.blob();
    return text.startsWith("[sandbox ") && file.type === "image/webp";
  },
  "trainings.cancel": () => isRefused(() => replicate.trainings.cancel("x")),
  "trainings.create": () =>
    isRefused(() =>
      replicate.trainings.create(...SDXL, "x", { destination: "a/b", input: {} }),
    ),
  "trainings.get": () => isRefused(() => replicate.trainings.get("x")),
  "trainings.list": () => isRefused(() => replicate.trainings.list()),
  wait: async () => (await replicate.wait(await make(), { interval: 5 })).status === "succeeded",
  "webhooks.default.secret.get": async () =>
    (await replicate.webhooks.default.secret.get()).key.startsWith("whsec_"),
};

function* methods(resource, prefix) {
  for (const [name, member] of Object.entries(resource)) {
    if (typeof member === "function") yield prefix + name;
    else if (member && typeof member === "object") yield* methods(member, `${prefix}${name}.`);
  }
}

const known = new Set(methods({ ...replicate, fetch: undefined }, ""));
for (const name of Object.getOwnPropertyNames(Replicate.prototype)) known.add(name);
known.delete("constructor");
for (const method of [...known, ...Object.keys(cases)].sort()) {
  if (known.has(method) && method in cases) continue;
  console.log(JSON.stringify({ method, error: "is not a method, or is not called" }));
}
for (const [method, call] of Object.entries(cases)) {
  let error = null;
  try {
    if (!(await call())) error = "another answer";
  } catch (failure) {
    error = String(failure);
  }
  console.log(JSON.stringify({ method, error }));
}
