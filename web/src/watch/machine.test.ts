import { beforeEach, describe, expect, it } from "vitest";
import { type Cause, type Input, LIMITS, WatchMachine } from "./machine";

class Bench {
  machine = new WatchMachine(() => 0);
  nowMs = 1_000;

  give(input: Input): string[] {
    this.machine.handle(this.nowMs, input);
    return this.drain();
  }

  expire(): string[] {
    this.nowMs = this.machine.pollTimeout() ?? this.nowMs;
    this.machine.handleTimeout(this.nowMs);
    return this.drain();
  }

  fail(player: number, cause: Cause): string[] {
    return this.give({ type: "failed", player, cause, message: "why" });
  }

  drain(): string[] {
    const outputs: string[] = [];
    for (let o = this.machine.pollOutput(); o; o = this.machine.pollOutput()) {
      outputs.push(`${o.type} ${o.player}`);
    }
    return outputs;
  }

  get phase() {
    return this.machine.snapshot.phase;
  }
}

let bench: Bench;
beforeEach(() => {
  bench = new Bench();
});

describe("WatchMachine", () => {
  it("opens and plays", () => {
    expect(bench.give({ type: "open" })).toEqual(["open 1"]);
    bench.give({ type: "data", player: 1 });
    expect(bench.phase).toBe("opening");
    bench.give({ type: "progress", player: 1 });
    expect(bench.phase).toBe("playing");
    expect(bench.give({ type: "close" })).toEqual(["close 1"]);
    expect(bench.phase).toBe("off");
    expect(bench.machine.pollTimeout()).toBeUndefined();
  });

  it("waits on a quiet connection without giving it up", () => {
    bench.give({ type: "open" });
    expect(bench.expire()).toEqual([]);
    expect(bench.phase).toBe("waiting");
    expect(bench.machine.pollTimeout()).toBeUndefined();
    bench.give({ type: "data", player: 1 });
    bench.give({ type: "progress", player: 1 });
    expect(bench.phase).toBe("playing");
  });

  it("asks again and again for a show that has not begun, staying in the same state", () => {
    bench.give({ type: "open" });
    const waits: number[] = [];
    for (let player = 1; player <= 8; player += 1) {
      expect(bench.fail(player, "not_found")).toEqual([`close ${player}`]);
      expect(bench.phase).toBe("waiting");
      waits.push((bench.machine.pollTimeout() ?? 0) - bench.nowMs);
      expect(bench.expire()).toEqual([`open ${player + 1}`]);
      expect(bench.phase).toBe("waiting");
    }
    expect(waits[0]).toBe(800);
    expect(waits.at(-1)).toBe(2_500);
    expect(bench.machine.snapshot.reconnects).toBe(0);
  });

  it("reconnects when a running stream ends, and counts it", () => {
    bench.give({ type: "open" });
    bench.give({ type: "progress", player: 1 });
    expect(bench.fail(1, "ended")).toEqual(["close 1"]);
    expect(bench.machine.snapshot).toMatchObject({ phase: "retrying", reconnects: 1 });
    expect(bench.expire()).toEqual(["open 2"]);
  });

  it("tells the end of the show from a lost connection", () => {
    bench.give({ type: "open" });
    bench.give({ type: "progress", player: 1 });
    bench.fail(1, "ended");
    bench.expire();
    bench.fail(2, "not_found");
    expect(bench.machine.snapshot.phase).toBe("waiting");
    expect(bench.machine.snapshot.message).toContain("ended");
  });

  it("backs off, and starts over after a stable stream", () => {
    bench.give({ type: "open" });
    const waits: number[] = [];
    for (let player = 1; player <= 7; player += 1) {
      bench.fail(player, "network");
      waits.push((bench.machine.pollTimeout() ?? 0) - bench.nowMs);
      bench.expire();
    }
    expect(waits).toEqual([400, 800, 1_600, 3_200, 6_400, 8_000, 8_000]);
    bench.give({ type: "progress", player: 8 });
    bench.nowMs += LIMITS.stableMs;
    bench.give({ type: "progress", player: 8 });
    bench.fail(8, "network");
    expect((bench.machine.pollTimeout() ?? 0) - bench.nowMs).toBe(400);
  });

  it("replaces a connection that went silent while playing", () => {
    bench.give({ type: "open" });
    bench.give({ type: "progress", player: 1 });
    expect(bench.expire()).toEqual(["close 1"]);
    expect(bench.nowMs).toBe(1_000 + LIMITS.deadMs);
    expect(bench.phase).toBe("retrying");
  });

  it.each(["denied", "unsupported"] as const)("%s ends the attempts", (cause) => {
    bench.give({ type: "open" });
    expect(bench.fail(1, cause)).toEqual(["close 1"]);
    expect(bench.phase).toBe(cause);
    expect(bench.machine.pollTimeout()).toBeUndefined();
    expect(bench.give({ type: "open" })).toEqual(["open 2"]);
  });

  it("ignores a player that was replaced", () => {
    bench.give({ type: "open" });
    expect(bench.give({ type: "open" })).toEqual(["close 1", "open 2"]);
    expect(bench.fail(1, "network")).toEqual([]);
    bench.give({ type: "progress", player: 1 });
    expect(bench.phase).toBe("opening");
  });
});
