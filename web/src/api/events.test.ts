import { describe, expect, it } from "vitest";
import { EventStreamParser } from "./events";

const STREAM =
  ': hello\n\nid: 7\nevent: channel.updated\ndata: {"a":\ndata: 1}\n\n' +
  "data:no space\r\ndata: two\r\n\r\nretry: 1000\nevent: empty\n\ndata: last\rid: 8\r\r";

const EXPECTED = [
  { id: "7", event: "channel.updated", data: '{"a":\n1}' },
  { id: "7", event: "message", data: "no space\ntwo" },
  { id: "8", event: "message", data: "last" },
];

describe("EventStreamParser", () => {
  it("reads messages", () => {
    // One more line, because a trailing CR may be half of a CR LF.
    expect(new EventStreamParser().push(`${STREAM}:\n`)).toEqual(EXPECTED);
  });

  it("does not care where chunks end", () => {
    for (let size = 1; size < 9; size += 1) {
      const parser = new EventStreamParser();
      const messages = [];
      const text = `${STREAM}:\n`;
      for (let at = 0; at < text.length; at += size) {
        messages.push(...parser.push(text.slice(at, at + size)));
      }
      expect(messages).toEqual(EXPECTED);
    }
  });

  it("gives up on a peer that never ends a line", () => {
    const parser = new EventStreamParser();
    const chunk = "x".repeat(EventStreamParser.MAX_LINE / 2 + 1);
    parser.push(chunk);
    expect(() => parser.push(chunk)).toThrow();
  });
});
