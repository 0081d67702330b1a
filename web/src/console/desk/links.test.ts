import { describe, expect, it } from "vitest";
import type { Channel } from "../../api/types";
import { candidates } from "./links";

const channel = (id: string, more: Partial<Channel> = {}) => ({ id, ...more }) as Channel;

describe("candidates", () => {
  it("are the other channels that are in no show", () => {
    const own = channel("own");
    const all = [
      own,
      channel("free"),
      channel("guest", { show: "x" }),
      channel("owner", { links: ["y"] }),
      channel("parted", { links: [] }),
    ];
    expect(candidates(own, all).map(({ id }) => id)).toEqual(["free", "parted"]);
  });
});
