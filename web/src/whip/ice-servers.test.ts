import { describe, expect, it } from "vitest";
import { haveRelay, parseIceServers } from "./ice-servers";

describe("Link headers", () => {
  it("name servers with and without credentials", () => {
    const servers = parseIceServers(
      '<stun:stun.example>; rel="ice-server", ' +
        '<turn:turn.example:3478?transport=udp>; rel="ice-server"; username="17:a,b;c"; ' +
        'credential="se\\"cr\\\\et="; credential-type="password"',
    );
    expect(servers).toEqual([
      { urls: "stun:stun.example" },
      {
        urls: "turn:turn.example:3478?transport=udp",
        username: "17:a,b;c",
        credential: 'se"cr\\et=',
      },
    ]);
    expect(haveRelay(servers)).toBe(true);
    expect(haveRelay(servers.slice(0, 1))).toBe(false);
  });

  it("of another kind, or broken, name none", () => {
    for (const header of [
      null,
      "",
      '<https://example/style.css>; rel="stylesheet"',
      "<turn:turn.example>; rel=ice-server",
      '<stun:a; rel="ice-server"',
      'turn:a; rel="ice-server"',
      '<turn:a>; rel="ice-server; username="u"; credential="p',
      ',;="\\',
    ]) {
      expect(parseIceServers(header), header ?? "none").toEqual([]);
    }
  });
});
