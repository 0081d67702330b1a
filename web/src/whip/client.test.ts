import { describe, expect, it, vi } from "vitest";
import { type Environment, explain, WhipClient, type WhipOptions } from "./client";

const SDP =
  "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\nm=video 9 X 96\r\na=mid:0\r\na=rtpmap:96 H264/90000\r\n" +
  "m=audio 9 X 111\r\na=mid:1\r\na=rtpmap:111 opus/48000/2\r\n";

/** As much of a peer connection as the client uses. */
class FakeConnection extends EventTarget {
  connectionState = "new";
  iceGatheringState = "complete";
  localDescription: { sdp: string } | null = null;
  remote: string[] = [];
  closed = false;
  kinds: string[] = [];
  replaced: unknown[] = [];

  addTransceiver(kind: string) {
    this.kinds.push(kind);
    const sender = {
      getParameters: () => ({ encodings: [{}] }),
      setParameters: async () => undefined,
      replaceTrack: async (track: unknown) => {
        this.replaced.push(track);
      },
    };
    return { sender, setCodecPreferences: () => undefined };
  }
  createOffer(options?: { iceRestart?: boolean }) {
    return Promise.resolve({
      type: "offer",
      sdp: options?.iceRestart ? SDP.replace("u\r", "U\r") : SDP,
    });
  }
  setLocalDescription(description: { sdp: string }) {
    this.localDescription = description;
    return Promise.resolve();
  }
  setRemoteDescription({ sdp }: { sdp: string }) {
    this.remote.push(sdp);
    return Promise.resolve();
  }
  close() {
    this.closed = true;
  }
  become(state: string) {
    this.connectionState = state;
    this.dispatchEvent(new Event("connectionstatechange"));
  }
}

interface Answer {
  status: number;
  body?: string;
  headers?: Record<string, string>;
}

const CREATED: Answer = { status: 201, body: SDP, headers: { Location: "/whip/demo/s1" } };

function setUp(answers: Answer[], codecs = ["video/H264", "video/rtx", "audio/opus"]) {
  const connections: FakeConnection[] = [];
  const requests: {
    url: string;
    method: string;
    headers: Record<string, string>;
    keepalive: boolean;
  }[] = [];
  const environment: Environment = {
    fetch: (async (url: string, init: RequestInit) => {
      requests.push({
        url,
        method: init.method ?? "GET",
        headers: init.headers as Record<string, string>,
        keepalive: init.keepalive ?? false,
      });
      if (init.method === "DELETE") return new Response(null, { status: 200 });
      const answer = answers.shift();
      if (!answer) throw new TypeError("Failed to fetch");
      const { status, body = "", headers = {} } = answer;
      const response = new Response(body, { status, headers });
      Object.defineProperty(response, "url", { value: url });
      return response;
    }) as typeof fetch,
    createConnection: () => {
      const connection = new FakeConnection();
      connections.push(connection);
      return connection as unknown as RTCPeerConnection;
    },
    senderCodecs: (kind) =>
      codecs
        .filter((mimeType) => mimeType.startsWith(kind))
        .map((mimeType) => ({ mimeType, clockRate: 90_000 })),
    nowMs: () => Date.now(),
    setTimer: (callback, ms) => setTimeout(callback, ms) as unknown as number,
    clearTimer: (id) => clearTimeout(id),
    random: () => 0,
  };
  const options: WhipOptions = {
    url: "http://anchor:8080/whip/demo?participant=me&role=host",
    token: () => "secret",
    video: undefined,
    audio: undefined,
    encoder: {
      maxVideoBitrate: 2_500_000,
      maxFramerate: 30,
      degradation: "balanced",
      audio: { stereo: true, maxAverageBitrate: 128_000 },
    },
  };
  const phases: string[] = [];
  const client = new WhipClient(
    options,
    ({ phase }) => {
      if (phases.at(-1) !== phase) phases.push(phase);
    },
    environment,
  );
  return { client, connections, requests, phases };
}

/** Lets promises run without letting time pass. */
const settle = () => vi.advanceTimersByTimeAsync(0);

describe("WhipClient", () => {
  it("publishes and ends with a request that outlives the page", async () => {
    vi.useFakeTimers();
    const { client, connections, requests, phases } = setUp([CREATED]);
    client.start();
    await settle();
    connections[0]?.become("connected");
    expect(phases).toEqual(["opening", "connecting", "live"]);
    expect(requests[0]).toMatchObject({
      method: "POST",
      headers: { "Content-Type": "application/sdp", Authorization: "Bearer secret" },
    });
    expect(connections[0]?.kinds).toEqual(["video", "audio"]);
    expect(connections[0]?.remote[0]).toContain("maxaveragebitrate=128000");
    client.stop();
    expect(connections[0]?.closed).toBe(false);
    await settle();
    expect(connections[0]?.closed).toBe(true);
    expect(requests[1]).toMatchObject({
      method: "DELETE",
      url: "http://anchor:8080/whip/demo/s1",
      keepalive: true,
    });
    expect(phases.at(-1)).toBe("idle");
    vi.useRealTimers();
  });

  it("explains a refusal and stops", async () => {
    vi.useFakeTimers();
    const problem = { title: "Conflict", detail: "alice is live" };
    const { client, phases } = setUp([
      {
        status: 409,
        body: JSON.stringify(problem),
        headers: { "Content-Type": "application/problem+json" },
      },
    ]);
    client.start();
    await settle();
    expect(phases).toEqual(["opening", "failed"]);
    expect(client.snapshot.failure).toMatchObject({ status: 409 });
    expect(client.snapshot.failure?.message).toContain("Join as a guest");
    vi.useRealTimers();
  });

  it("keeps trying while the server is away", async () => {
    vi.useFakeTimers();
    const { client, connections, phases } = setUp([]);
    client.start();
    await settle();
    expect(phases).toEqual(["opening", "waiting"]);
    await vi.advanceTimersByTimeAsync(500);
    expect(connections).toHaveLength(2);
    expect(connections[0]?.closed).toBe(true);
    client.stop();
    vi.useRealTimers();
  });

  it("restarts ICE, then opens a new session for the same participant", async () => {
    vi.useFakeTimers();
    const fragment = "a=ice-ufrag:new\r\na=ice-pwd:newpassword\r\n";
    const { client, connections, requests, phases } = setUp([
      CREATED,
      { status: 200, body: fragment },
      CREATED,
    ]);
    client.start();
    await settle();
    connections[0]?.become("connected");
    connections[0]?.become("disconnected");
    await vi.advanceTimersByTimeAsync(1_500);
    expect(requests[1]).toMatchObject({ method: "PATCH", headers: { "If-Match": "*" } });
    expect(connections[0]?.remote[1]).toContain("a=ice-ufrag:new");
    expect(client.snapshot.phase).toBe("recovering");
    connections[0]?.become("failed");
    await vi.advanceTimersByTimeAsync(500);
    expect(requests.map(({ method }) => method)).toEqual(["POST", "PATCH", "DELETE", "POST"]);
    expect(requests[3]?.url).toBe(requests[0]?.url);
    expect(phases).toContain("waiting");
    client.stop();
    vi.useRealTimers();
  });

  it("deletes a session that was stopped before its answer came", async () => {
    vi.useFakeTimers();
    const { client, requests } = setUp([CREATED]);
    client.start();
    client.stop();
    await settle();
    expect(requests.map(({ method }) => method)).toEqual(["POST", "DELETE"]);
    expect(client.snapshot.phase).toBe("idle");
    vi.useRealTimers();
  });

  it("asks the owner of the channel itself when a redirect lost the token", async () => {
    vi.useFakeTimers();
    const { client, connections, requests } = setUp([{ status: 401 }, CREATED]);
    const owner = "http://owner:8080/whip/demo";
    const redirected = vi.spyOn(Response.prototype, "redirected", "get").mockReturnValue(true);
    const at = vi.spyOn(Response.prototype, "url", "get").mockReturnValue(owner);
    client.start();
    await settle();
    connections[0]?.become("connected");
    expect(requests.map(({ method }) => method)).toEqual(["POST", "POST"]);
    redirected.mockRestore();
    at.mockRestore();
    client.stop();
    vi.useRealTimers();
  });

  it("says so when the browser has no H.264", async () => {
    vi.useFakeTimers();
    const { client, requests } = setUp([CREATED], ["video/VP8", "audio/opus"]);
    client.start();
    await settle();
    expect(client.snapshot.phase).toBe("failed");
    expect(client.snapshot.failure?.message).toContain("H.264");
    expect(requests).toEqual([]);
    vi.useRealTimers();
  });

  it("swaps a track without a new session", async () => {
    vi.useFakeTimers();
    const { client, connections } = setUp([CREATED]);
    client.start();
    await settle();
    await client.replaceTrack("audio", undefined);
    expect(connections[0]?.replaced).toEqual([null]);
    expect(connections).toHaveLength(1);
    client.stop();
    vi.useRealTimers();
  });
});

describe("explain", () => {
  it("adds the server's reason to the advice", () => {
    expect(explain(503, { detail: "500 sessions" })).toMatch(/at the moment.*500 sessions/);
    expect(explain(409, { detail: "conflict" })).not.toContain("conflict");
    expect(explain(500, { title: "Oops" })).toBe("Oops");
    expect(explain(500, {})).toBe("The server answered 500.");
  });
});
