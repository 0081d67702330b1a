import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Answer, CREATED, FakeBrowser, settle } from "./fakes";
import { explainPlay, WhepClient, whepUrl } from "./whep";

const ABSENT: Answer = { status: 404 };

function setUp(answers: Answer[], codecs?: string[]) {
  const browser = new FakeBrowser(answers, codecs);
  const streams: { tracks: string[] }[] = [];
  const phases: string[] = [];
  const client = new WhepClient(
    {
      url: whepUrl("http://anchor:8080/studio/demo", "demo", "bob"),
      token: () => "secret",
      onStream: (stream) => streams.push(stream as unknown as { tracks: string[] }),
    },
    ({ phase }) => {
      if (phases.at(-1) !== phase) phases.push(phase);
    },
    browser.environment,
  );
  return { ...browser, client, streams, phases };
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal(
    "MediaStream",
    class {
      tracks: string[];
      constructor(tracks: string[]) {
        this.tracks = [...tracks];
      }
      addTrack(track: string) {
        this.tracks.push(track);
      }
    },
  );
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("WhepClient", () => {
  it("asks for both kinds, shows one stream and deletes the session at the end", async () => {
    const { client, connections, requests, streams, phases } = setUp([CREATED]);
    client.start();
    await settle();
    connections[0]?.receive("sound");
    connections[0]?.receive("picture");
    connections[0]?.become("connected");
    expect(phases).toEqual(["opening", "connecting", "live"]);
    expect(requests[0]).toMatchObject({
      method: "POST",
      url: "http://anchor:8080/whep/demo/bob",
      headers: { Authorization: "Bearer secret" },
    });
    expect(connections[0]?.kinds).toEqual(["video", "audio"]);
    expect(connections[0]?.directions).toEqual(["recvonly", "recvonly"]);
    expect(streams.map(({ tracks }) => tracks)).toEqual([["sound", "picture"]]);
    client.stop();
    await settle();
    expect(requests[1]).toMatchObject({ method: "DELETE", keepalive: true });
    expect(connections[0]?.closed).toBe(true);
  });

  it("goes on looking for who is not there yet, and sooner when told", async () => {
    const { client, requests, phases } = setUp([ABSENT, ABSENT, CREATED]);
    client.start();
    await settle();
    expect(phases).toEqual(["opening", "waiting"]);
    expect(client.snapshot.failure).toMatchObject({ status: 404 });
    await vi.advanceTimersByTimeAsync(500);
    expect(requests).toHaveLength(2);
    client.again();
    await settle();
    expect(client.snapshot.phase).toBe("connecting");
    client.stop();
  });

  it("never waits long", async () => {
    const { client, requests } = setUp(Array.from({ length: 50 }, () => ABSENT));
    client.start();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(requests.length).toBeGreaterThan(14);
    client.stop();
  });

  it("follows a participant over a lost connection with a new stream", async () => {
    const { client, connections, streams } = setUp([CREATED, ABSENT, CREATED]);
    client.start();
    await settle();
    connections[0]?.receive("a");
    connections[0]?.become("connected");
    connections[0]?.become("failed");
    await vi.advanceTimersByTimeAsync(2_000);
    connections[2]?.receive("b");
    expect(streams).toHaveLength(2);
    client.stop();
  });

  it.each([401, 403, 501])("gives up when the server says %i", async (status) => {
    const { client, requests } = setUp([{ status }]);
    client.start();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(client.snapshot.phase).toBe("failed");
    expect(requests).toHaveLength(1);
  });

  it("says so when the browser has no H.264", async () => {
    const { client, requests } = setUp([CREATED], ["video/VP8", "audio/opus"]);
    client.start();
    await settle();
    expect(client.snapshot.failure?.message).toContain("H.264");
    expect(requests).toEqual([]);
  });
});

describe("words and addresses", () => {
  it("escape names and explain", () => {
    expect(whepUrl("http://h/", "a b", "c/d")).toBe("http://h/whep/a%20b/c%2Fd");
    expect(explainPlay(404, {})).toBe("Not here yet.");
    expect(explainPlay(418, { detail: "odd" })).toBe("odd");
  });
});
