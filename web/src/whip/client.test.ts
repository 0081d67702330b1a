import { describe, expect, it, vi } from "vitest";
import { explain, WhipClient } from "./client";
import { type Answer, CREATED, FakeBrowser, settle } from "./fakes";
import { LIMITS } from "./machine";

function setUp(answers: Answer[], codecs?: string[]) {
  const browser = new FakeBrowser(answers, codecs);
  const phases: string[] = [];
  const client = new WhipClient(
    {
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
    },
    ({ phase }) => {
      if (phases.at(-1) !== phase) phases.push(phase);
    },
    browser.environment,
  );
  const { connections, requests } = browser;
  return { client, connections, requests, phases };
}

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

  it("asks the TURN servers of the answer when there is no other way", async () => {
    vi.useFakeTimers();
    const link = '<turn:relay.example>; rel="ice-server"; username="u"; credential="p"';
    const created = { ...CREATED, headers: { ...CREATED.headers, Link: link } };
    const fragment = { status: 200, body: "a=ice-ufrag:x\r\na=ice-pwd:y\r\n" };
    const { client, connections, requests, phases } = setUp([created, fragment]);
    client.start();
    await settle();
    const relay = [{ urls: "turn:relay.example", username: "u", credential: "p" }];
    expect(connections[0]?.iceServers).toEqual(relay);
    await vi.advanceTimersByTimeAsync(LIMITS.directMs);
    expect(requests.map(({ method }) => method)).toEqual(["POST", "PATCH"]);
    connections[0]?.become("connected");
    expect(phases).toEqual(["opening", "connecting", "live"]);
    // Whoever is lost later begins with them.
    connections[0]?.become("failed");
    await vi.advanceTimersByTimeAsync(LIMITS.connectMs);
    expect(connections[1]?.iceServers).toEqual(relay);
    client.stop();
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
