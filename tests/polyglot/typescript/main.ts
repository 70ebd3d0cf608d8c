// Streams a text, makes an image and sends a request that is refused, all on the generated stubs
// alone. Says what it got as one JSON value a line.

import { randomUUID } from "node:crypto";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "@mediagate/client/google/rpc/error_details_pb";
import { Generation_State } from "@mediagate/client/mediagate/v1/generation_pb";
import { ImageService } from "@mediagate/client/mediagate/v1/image_pb";
import { TextService } from "@mediagate/client/mediagate/v1/text_pb";

const address = process.argv[2];
if (address === undefined) {
  throw new Error("usage: main.js host:port");
}
const transport = createGrpcTransport({ baseUrl: `http://${address}` });
const text = createClient(TextService, transport);
const images = createClient(ImageService, transport);

function say(line: Record<string, unknown>): void {
  const plain = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);
  console.log(JSON.stringify(line, plain));
}

async function streamText(): Promise<void> {
  const request = { requestId: randomUUID(), prompt: "Tell me about the sea, at some length." };
  for await (const { sequence, event } of text.streamText(request, { timeoutMs: 30_000 })) {
    switch (event.case) {
      case "started":
        say({ event: "started", requestId: event.value.requestId, sandbox: event.value.sandbox });
        break;
      case "delta":
        if (event.value.delta.case === "text") {
          say({ event: "delta", sequence, text: event.value.delta.value });
        }
        break;
      case "completed":
        say({ event: "completed", sequence, costUsdNanos: event.value.cost?.usdNanos });
        break;
    }
  }
}

async function makeImage(): Promise<void> {
  const request = {
    requestId: randomUUID(),
    prompt: "A lighthouse at dusk",
    dimensions: { case: "aspectRatio" as const, value: "1:1" },
  };
  const { generation } = await images.generateImage(request, { timeoutMs: 30_000 });
  const image = generation?.output.case === "images" ? generation.output.value.images[0] : undefined;
  say({
    event: "image",
    state: Generation_State[generation?.state ?? Generation_State.UNSPECIFIED],
    uri: image?.uri,
    mediaType: image?.mediaType,
    costUsdNanos: generation?.cost?.usdNanos,
  });
}

async function beRefused(): Promise<void> {
  try {
    await images.generateImage({ prompt: "" }, { timeoutMs: 30_000 });
  } catch (error) {
    const refusal = ConnectError.from(error);
    const info = refusal.findDetails(ErrorInfoSchema)[0];
    say({ event: "refused", code: Code[refusal.code], reason: info?.reason, domain: info?.domain });
  }
}

await streamText();
await makeImage();
await beRefused();
