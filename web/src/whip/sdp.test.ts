import { describe, expect, it } from "vitest";
import {
  accepts,
  announceAudio,
  applyFragment,
  audioPreferences,
  configureEncoders,
  iceCredentials,
  restartFragment,
  videoPreferences,
  wishForStereo,
} from "./sdp";

const lines = (text: string) => `${text.trim().split("\n").join("\r\n")}\r\n`;

const OFFER = lines(`v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
m=video 9 UDP/TLS/RTP/SAVPF 96 97
a=mid:0
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=rtpmap:96 H264/90000
a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=candidate:1 1 udp 2113937151 192.0.2.1 50000 typ host
m=audio 9 UDP/TLS/RTP/SAVPF 111 63
a=mid:1
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2`);

describe("announceAudio", () => {
  it("says that stereo will be sent, and keeps what was there", () => {
    const sdp = announceAudio(OFFER, { stereo: true, maxAverageBitrate: 128_000 });
    expect(sdp).toContain("a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1\r\n");
    expect(sdp.replace(";stereo=1;sprop-stereo=1", "")).toBe(OFFER);
  });

  it("changes nothing for mono", () => {
    expect(announceAudio(OFFER, { stereo: false, maxAverageBitrate: 64_000 })).toBe(OFFER);
  });
});

describe("wishForStereo", () => {
  it("asks for both channels", () => {
    const sdp = wishForStereo(OFFER);
    expect(sdp).toContain("a=fmtp:111 minptime=10;useinbandfec=1;stereo=1\r\n");
    expect(sdp.replace(";stereo=1", "")).toBe(OFFER);
  });
});

describe("configureEncoders", () => {
  it("asks the own encoders for the chosen bitrates", () => {
    const sdp = configureEncoders(
      OFFER,
      { stereo: true, maxAverageBitrate: 96_000 },
      { startKbps: 1750 },
    );
    expect(sdp).toContain("stereo=1;sprop-stereo=1;maxaveragebitrate=96000");
    expect(sdp).toContain("profile-level-id=42e01f;x-google-start-bitrate=1750\r\n");
    expect(sdp).not.toContain("a=fmtp:97 apt=96;");
  });

  it("adds a format line where the answer has none", () => {
    const answer = OFFER.replace("a=fmtp:111 minptime=10;useinbandfec=1\r\n", "");
    const sdp = configureEncoders(answer, { stereo: false, maxAverageBitrate: 64_000 }, {});
    expect(sdp).toContain(
      "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 maxaveragebitrate=64000;useinbandfec=1\r\n",
    );
  });
});

describe("accepts", () => {
  it("sees a rejected stream by its port", () => {
    expect(accepts(OFFER, "video")).toBe(true);
    const rejected = OFFER.replace("m=video 9", "m=video 0");
    expect(accepts(rejected, "video")).toBe(false);
    expect(accepts(rejected, "audio")).toBe(true);
    expect(accepts("", "audio")).toBe(false);
  });
});

describe("ICE restart", () => {
  it("describes the first stream of the bundle", () => {
    const fragment = restartFragment(OFFER);
    expect(fragment?.split("\r\n")).toEqual([
      "a=ice-ufrag:abcd",
      "a=ice-pwd:0123456789012345678901",
      "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
      "a=mid:0",
      "a=candidate:1 1 udp 2113937151 192.0.2.1 50000 typ host",
      "",
    ]);
  });

  it("needs credentials", () => {
    expect(restartFragment("v=0\r\n")).toBeUndefined();
    expect(applyFragment(OFFER, "a=ice-ufrag:only\r\n")).toBeUndefined();
  });

  it("puts new credentials and candidates into the old answer", () => {
    const fragment = lines(`a=ice-ufrag:wxyz
a=ice-pwd:abcdefghijklmnopqrstuv
a=candidate:9 1 udp 1 198.51.100.7 8189 typ host`);
    const answer = applyFragment(OFFER, fragment) ?? "";
    expect(iceCredentials(answer)).toEqual({ ufrag: "wxyz", pwd: "abcdefghijklmnopqrstuv" });
    expect(answer).not.toContain("abcd\r\n");
    expect(answer.match(/a=candidate/g)).toHaveLength(1);
    const video = answer.slice(answer.indexOf("m=video"), answer.indexOf("m=audio"));
    expect(video).toContain("198.51.100.7");
  });
});

describe("codec preferences", () => {
  const codec = (mimeType: string, sdpFmtpLine = "") => ({
    mimeType,
    clockRate: 90_000,
    sdpFmtpLine,
  });

  it("prefers constrained baseline in packetization mode 1 and keeps retransmission", () => {
    const sorted = videoPreferences([
      codec("video/VP8"),
      codec("video/rtx"),
      codec("video/H264", "packetization-mode=0;profile-level-id=42e01f"),
      codec("video/H264", "packetization-mode=1;profile-level-id=640034"),
      codec("video/H264", "packetization-mode=1;profile-level-id=42001f"),
      codec("video/H264", "packetization-mode=1;profile-level-id=42e01f"),
      codec("video/ulpfec"),
    ]);
    expect(sorted.map(({ mimeType, sdpFmtpLine }) => sdpFmtpLine || mimeType)).toEqual([
      "packetization-mode=1;profile-level-id=42e01f",
      "packetization-mode=1;profile-level-id=42001f",
      "packetization-mode=1;profile-level-id=640034",
      "packetization-mode=0;profile-level-id=42e01f",
      "video/rtx",
    ]);
  });

  it("is empty where the browser has no H.264", () => {
    expect(videoPreferences([codec("video/VP8"), codec("video/rtx")])).toEqual([]);
  });

  it("is Opus alone for sound", () => {
    const sound = [codec("audio/red"), codec("audio/opus"), codec("audio/PCMU")];
    expect(audioPreferences(sound).map(({ mimeType }) => mimeType)).toEqual(["audio/opus"]);
  });
});
