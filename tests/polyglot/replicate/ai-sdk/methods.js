// Calls what Vercel's provider for Replicate has, against whatever base URL is given.
// Says for each, as one JSON value a line, how it went.

import { createReplicate } from "@ai-sdk/replicate";

const provider = createReplicate({ apiToken: "r8_any", baseURL: process.argv[2] });
const SDXL = "stability-ai/sdxl:39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b";
const FLUX2 = "black-forest-labs/flux-2-pro";
const picture = { type: "file", mediaType: "image/png", data: new Uint8Array([137, 80, 78, 71]) };

const call = { prompt: "a boat", n: 1, providerOptions: {}, files: undefined, mask: undefined };

async function draw(model, more = {}) {
  const { images } = await model.doGenerate({ ...call, ...more });
  return images.length === 1 && images[0].length > 100;
}

async function film(model, more = {}) {
  const { operation } = await model.doStart({ ...call, ...more });
  let status;
  do {
    await new Promise((resolve) => setTimeout(resolve, 10));
    status = await model.doStatus({ operation });
  } while (status.status === "pending");
  if (status.status === "error") throw new Error(status.error);
  const [{ url }] = status.videos;
  const answer = await fetch(url);
  return url.startsWith("https://") && answer.headers.get("content-type") === "video/mp4";
}

async function failure(model, prompt) {
  try {
    await film(model, { prompt });
  } catch (error) {
    return error.message;
  }
}

async function isRefused(call) {
  try {
    await call();
  } catch (error) {
    return error.statusCode === 422;
  }
  return false;
}

const hanging = {
  prompt: "x [[run_ms=1200]]",
  providerOptions: { replicate: { maxWaitTimeInSeconds: 1, pollIntervalMillis: 10 } },
};
const cases = {
  image: () => draw(provider.image("black-forest-labs/flux-schnell"), { aspectRatio: "16:9" }),
  "image by version": () => draw(provider.image(SDXL), { size: "512x512", seed: 7 }),
  "image polled": () => draw(provider.image("black-forest-labs/flux-schnell"), hanging),
  "image of a picture": () => draw(provider.image(FLUX2), { files: [picture] }),
  imageModel: () => draw(provider.imageModel("google/nano-banana")),
  "image refused": () =>
    isRefused(() => draw(provider.image("black-forest-labs/flux-schnell"), { aspectRatio: "7:1" })),
  video: () => film(provider.video("minimax/video-01")),
  "video polled": () => film(provider.video("minimax/video-01"), { prompt: "x [[run_ms=100]]" }),
  "video failed": async () =>
    (await failure(provider.video("minimax/video-01"), "x [[fail=E1001]]")).includes("E1001"),
  videoModel: () => film(provider.videoModel("bytedance/seedance-1-pro"), { duration: 5 }),
};

for (const [method, run] of Object.entries(cases)) {
  let error = null;
  try {
    if (!(await run())) error = "another answer";
  } catch (failure) {
    error = String(failure);
  }
  console.log(JSON.stringify({ method, error }));
}
for (const method of Object.keys(provider)) {
  const known = ["image", "imageModel", "video", "videoModel"].includes(method);
  const other = /^(specificationVersion|(language|embedding|textEmbedding)Model)$/.test(method);
  if (!known && !other) console.log(JSON.stringify({ method, error: "is not called" }));
}
