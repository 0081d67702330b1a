import { beforeEach, describe, expect, it } from "vitest";
import { type Input, LIMITS, SessionMachine } from "./machine";

/** Drives the machine by numbers; delays have no jitter. */
class Bench {
  machine = new SessionMachine(() => 0);
  nowMs = 1_000;

  give(input: Input): string[] {
    this.machine.handle(this.nowMs, input);
    return this.drain();
  }

  /** Lets time pass up to the machine's own deadline. */
  expire(): string[] {
    this.nowMs = this.machine.pollTimeout() ?? this.nowMs;
    this.machine.handleTimeout(this.nowMs);
    return this.drain();
  }

  drain(): string[] {
    const outputs: string[] = [];
    for (let o = this.machine.pollOutput(); o; o = this.machine.pollOutput()) {
      outputs.push(`${o.type} ${o.session}`);
    }
    return outputs;
  }

  get phase() {
    return this.machine.snapshot.phase;
  }

  goLive(session: number) {
    this.give({ type: "opened", session });
    this.give({ type: "transport", session, state: "connected" });
  }
}

let bench: Bench;
beforeEach(() => {
  bench = new Bench();
});

describe("a session", () => {
  it("opens, connects and is live until stopped", () => {
    expect(bench.give({ type: "start" })).toEqual(["open 1"]);
    expect(bench.phase).toBe("opening");
    bench.give({ type: "opened", session: 1 });
    expect(bench.phase).toBe("connecting");
    bench.give({ type: "transport", session: 1, state: "connected" });
    expect(bench.machine.snapshot).toMatchObject({ phase: "live", liveSinceMs: 1_000 });
    expect(bench.machine.pollTimeout()).toBeUndefined();
    expect(bench.give({ type: "stop" })).toEqual(["close 1"]);
    expect(bench.phase).toBe("idle");
  });

  it("is closed exactly once", () => {
    bench.give({ type: "start" });
    expect(bench.give({ type: "stop" })).toEqual(["close 1"]);
    expect(bench.give({ type: "stop" })).toEqual([]);
    expect(bench.give({ type: "opened", session: 1 })).toEqual([]);
    expect(bench.phase).toBe("idle");
  });

  it("is started once however often it is asked for", () => {
    bench.give({ type: "start" });
    expect(bench.give({ type: "start" })).toEqual([]);
  });

  it("ignores what an earlier session reports", () => {
    bench.give({ type: "start" });
    bench.goLive(1);
    bench.give({ type: "transport", session: 1, state: "failed" });
    expect(bench.expire()).toEqual(["open 3"]);
    bench.give({ type: "opened", session: 1 });
    expect(bench.phase).toBe("opening");
  });
});

describe("a server with TURN servers", () => {
  beforeEach(() => {
    bench.give({ type: "start" });
    bench.give({ type: "opened", session: 1, relays: true });
  });

  it("is reached without them where that is possible", () => {
    expect(bench.machine.pollTimeout()).toBe(1_000 + LIMITS.directMs);
    bench.give({ type: "transport", session: 1, state: "connected" });
    expect(bench.machine.pollTimeout()).toBeUndefined();
  });

  it("is reached through them where it is not", () => {
    expect(bench.expire()).toEqual(["restart 1"]);
    expect(bench.phase).toBe("connecting");
    bench.give({ type: "restarted", session: 1, ok: true });
    bench.give({ type: "transport", session: 1, state: "connected" });
    expect(bench.phase).toBe("live");
  });

  it("is tried through them once, then anew", () => {
    expect(bench.give({ type: "transport", session: 1, state: "failed" })).toEqual(["restart 1"]);
    expect(bench.machine.pollTimeout()).toBe(1_000 + LIMITS.connectMs);
    expect(bench.expire()).toEqual(["close 1"]);
    expect(bench.phase).toBe("waiting");
  });
});

describe("a lost transport", () => {
  beforeEach(() => {
    bench.give({ type: "start" });
    bench.goLive(1);
  });

  it("may heal by itself", () => {
    bench.give({ type: "transport", session: 1, state: "disconnected" });
    expect(bench.phase).toBe("recovering");
    bench.give({ type: "transport", session: 1, state: "connected" });
    expect(bench.machine.snapshot).toMatchObject({ phase: "live", failure: undefined });
  });

  it("gets one ICE restart, then a new session", () => {
    bench.give({ type: "transport", session: 1, state: "disconnected" });
    expect(bench.expire()).toEqual(["restart 1"]);
    expect(bench.expire()).toEqual(["close 1"]);
    expect(bench.phase).toBe("waiting");
    expect(bench.expire()).toEqual(["open 3"]);
  });

  it("is replaced at once when the restart is refused", () => {
    bench.give({ type: "transport", session: 1, state: "disconnected" });
    bench.expire();
    expect(bench.give({ type: "restarted", session: 1, ok: false })).toEqual(["close 1"]);
  });

  it("is noticed by the server's silence before ICE notices, and restarted at once", () => {
    const received = (packets: number) => bench.give({ type: "received", session: 1, packets });
    received(10);
    bench.nowMs += LIMITS.silentMs - 1;
    received(10);
    expect(bench.phase).toBe("live");
    bench.nowMs += 1;
    received(10);
    expect(bench.phase).toBe("recovering");
    expect(bench.expire()).toEqual(["restart 1"]);
    received(11);
    expect(bench.phase).toBe("live");
  });

  it("does not miss packets that never came", () => {
    for (let i = 0; i < 20; i += 1) {
      bench.nowMs += 1_000;
      bench.give({ type: "received", session: 1, packets: 0 });
    }
    expect(bench.phase).toBe("live");
  });

  it("keeps the time on air over a reconnect", () => {
    bench.give({ type: "transport", session: 1, state: "failed" });
    bench.expire();
    bench.goLive(3);
    expect(bench.machine.snapshot.liveSinceMs).toBe(1_000);
  });

  it("comes back at once when the device is online again", () => {
    bench.give({ type: "transport", session: 1, state: "failed" });
    expect(bench.give({ type: "online" })).toEqual(["open 3"]);
  });
});

describe("a refusal", () => {
  const refuse = (session: number, status?: number, retryAfterMs?: number): Input => ({
    type: "refused",
    session,
    failure: status === undefined ? { message: "m" } : { message: "m", status },
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
  beforeEach(() => {
    bench.give({ type: "start" });
  });

  it.each([400, 401, 403, 404, 409, 415, 422])("%i ends the attempt", (status) => {
    expect(bench.give(refuse(1, status))).toEqual(["close 1"]);
    expect(bench.machine.snapshot).toMatchObject({ phase: "failed", failure: { status } });
    expect(bench.machine.pollTimeout()).toBeUndefined();
    expect(bench.give({ type: "start" })).toEqual(["open 3"]);
  });

  it.each([undefined, 429, 500, 503])("%s is tried again", (status) => {
    expect(bench.give(refuse(1, status))).toEqual(["close 1"]);
    expect(bench.phase).toBe("waiting");
    expect(bench.expire()).toEqual(["open 3"]);
  });

  it("waits as long as the server asks", () => {
    bench.give(refuse(1, 503, 30_000));
    expect(bench.machine.pollTimeout()).toBe(31_000);
  });

  it("waits longer each time, and starts over after a stable session", () => {
    const waits: number[] = [];
    for (let session = 1; session <= 5; session += 2) {
      bench.give(refuse(session));
      waits.push((bench.machine.pollTimeout() ?? 0) - bench.nowMs);
      bench.expire();
    }
    expect(waits).toEqual([500, 1_000, 2_000]);
    bench.goLive(7);
    bench.nowMs += LIMITS.stableMs;
    bench.give({ type: "transport", session: 7, state: "failed" });
    expect((bench.machine.pollTimeout() ?? 0) - bench.nowMs).toBe(500);
  });

  it("409 after having been live is our own shadow for a while, then final", () => {
    bench.goLive(1);
    bench.give({ type: "transport", session: 1, state: "failed" });
    let session = 3;
    for (let i = 0; i < 4; i += 1) {
      bench.expire();
      bench.give(refuse(session, 409));
      expect(bench.phase).toBe("waiting");
      session += 2;
    }
    bench.expire();
    bench.give(refuse(session, 409));
    expect(bench.phase).toBe("failed");
  });

  it("an incapable browser is told so, not tried again", () => {
    bench.give({ type: "impossible", session: 1, failure: { message: "no H.264" } });
    expect(bench.machine.snapshot).toMatchObject({
      phase: "failed",
      failure: { message: "no H.264" },
    });
  });
});

describe("silence", () => {
  it("of the server is given up after a while", () => {
    bench.give({ type: "start" });
    expect(bench.expire()).toEqual(["close 1"]);
    expect(bench.nowMs).toBe(1_000 + LIMITS.openMs);
    expect(bench.machine.snapshot.failure?.message).toContain("did not answer");
  });

  it("of the media path is given up after a while, with a hint at the firewall", () => {
    bench.give({ type: "start" });
    bench.give({ type: "opened", session: 1 });
    expect(bench.expire()).toEqual(["close 1"]);
    expect(bench.machine.snapshot.failure?.message).toContain("firewall");
  });
});
