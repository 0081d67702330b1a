// For tests: as much of a browser as a media session uses, and a server that answers what it is told to.

import { vi } from "vitest";
import type { Environment } from "./session";

const SDP =
  "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\nm=video 9 X 96\r\na=mid:0\r\na=rtpmap:96 H264/90000\r\n" +
  "m=audio 9 X 111\r\na=mid:1\r\na=rtpmap:111 opus/48000/2\r\n";

export interface Answer {
  status: number;
  body?: string;
  headers?: Record<string, string>;
}

export const CREATED: Answer = { status: 201, body: SDP, headers: { Location: "/whip/demo/s1" } };

export class FakeConnection extends EventTarget {
  connectionState = "new";
  iceGatheringState = "complete";
  localDescription: { sdp: string } | null = null;
  remote: string[] = [];
  closed = false;
  kinds: string[] = [];
  directions: string[] = [];
  replaced: unknown[] = [];
  iceServers: RTCIceServer[];

  constructor(configuration: RTCConfiguration = {}) {
    super();
    this.iceServers = configuration.iceServers ?? [];
  }

  getConfiguration(): RTCConfiguration {
    return { iceServers: this.iceServers };
  }
  setConfiguration({ iceServers = [] }: RTCConfiguration) {
    this.iceServers = iceServers;
  }

  addTransceiver(kind: string, { direction }: { direction: string }) {
    this.kinds.push(kind);
    this.directions.push(direction);
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
  receive(track: string) {
    this.dispatchEvent(Object.assign(new Event("track"), { track }));
  }
}

export interface Asked {
  url: string;
  method: string;
  headers: Record<string, string>;
  keepalive: boolean;
}

/** Answers POST and PATCH with `answers`, first to last, and with silence when there are no more. */
export class FakeBrowser {
  readonly connections: FakeConnection[] = [];
  readonly requests: Asked[] = [];
  readonly environment: Environment;

  constructor(answers: Answer[], codecs = ["video/H264", "video/rtx", "audio/opus"]) {
    const known = (kind: string) =>
      codecs
        .filter((mimeType) => mimeType.startsWith(kind))
        .map((mimeType) => ({ mimeType, clockRate: 90_000 }));
    this.environment = {
      fetch: (async (url: string, init: RequestInit) => {
        this.requests.push({
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
      createConnection: (configuration) => {
        const connection = new FakeConnection(configuration);
        this.connections.push(connection);
        return connection as unknown as RTCPeerConnection;
      },
      senderCodecs: known,
      receiverCodecs: known,
      nowMs: () => Date.now(),
      setTimer: (callback, ms) => setTimeout(callback, ms) as unknown as number,
      clearTimer: (id) => clearTimeout(id),
      random: () => 0,
    };
  }
}

/** Lets promises run without letting time pass. */
export const settle = () => vi.advanceTimersByTimeAsync(0);
