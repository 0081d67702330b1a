// WebRTC by WHEP: the program in real time. There is nothing to buffer and nowhere to jump to.

import { token } from "../../api/token";
import type { Snapshot } from "../../whip/machine";
import { WhepClient } from "../../whip/whep";
import type { Cause } from "../machine";
import { causeOfStatus, type Player, type PlayerHandlers, words } from "./player";

export function webrtcSupported(): boolean {
  return typeof RTCPeerConnection === "function";
}

/** Why a session cannot go on, if it cannot. The page tries again, with the patience that it has for every player. */
export function failureOf(snapshot: Snapshot): { cause: Cause; message: string } | undefined {
  if (snapshot.phase !== "waiting" && snapshot.phase !== "failed") return undefined;
  const { status, message = "" } = snapshot.failure ?? {};
  // What this browser cannot do has no status.
  if (status === 422 || (snapshot.phase === "failed" && status === undefined)) {
    return { cause: "unsupported", message };
  }
  if (status === 503)
    return { cause: "network", message: "The server has no room for more viewers." };
  const cause = causeOfStatus(status);
  return { cause, message: words(cause) };
}

export function createWebrtcPlayer(
  video: HTMLVideoElement,
  url: string,
  handlers: PlayerHandlers & {
    /** The element has a stream: it can be asked to play. */
    readonly onStream: () => void;
  },
): Player {
  let alive = true;
  const client = new WhepClient(
    {
      url,
      token,
      onStream: (stream) => {
        if (!alive) return;
        video.srcObject = stream;
        handlers.onStream();
      },
    },
    (snapshot) => {
      const failure = failureOf(snapshot);
      if (failure && alive) handlers.onFailed(failure.cause, failure.message);
    },
  );
  const stop = () => client.stop();
  window.addEventListener("pagehide", stop);
  // The stream is there as soon as it is agreed on; a picture comes with the host.
  const onLoaded = () => handlers.onData();
  video.addEventListener("loadeddata", onLoaded);
  client.start();
  return {
    kind: "webrtc",
    figures: () => ({ library: "the browser" }),
    jump: () => undefined,
    destroy: () => {
      alive = false;
      window.removeEventListener("pagehide", stop);
      video.removeEventListener("loadeddata", onLoaded);
      client.stop();
      video.srcObject = null;
    },
  };
}
