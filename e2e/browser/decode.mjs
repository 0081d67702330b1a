// Decodes an audio file in Chromium (Web Audio): `node decode.mjs FILE RATE_HZ` writes stereo single-precision samples to stdout.

import { readFile } from "node:fs/promises";

import { openPage } from "./chromium.mjs";

const [file, rate] = process.argv.slice(2);
const { browser, page } = await openPage((object) => process.stderr.write(`${JSON.stringify(object)}\n`));
try {
  const coded = (await readFile(file)).toString("base64");
  const decoded = await page.evaluate(
    async ([coded, rate]) => {
      const bytes = Uint8Array.from(atob(coded), (character) => character.charCodeAt(0));
      const context = new OfflineAudioContext(2, 1, Number(rate));
      const sound = await context.decodeAudioData(bytes.buffer);
      const [left, right] = [0, sound.numberOfChannels - 1].map((side) => sound.getChannelData(side));
      const both = new Float32Array(2 * sound.length);
      left.forEach((value, at) => (both[2 * at] = value));
      right.forEach((value, at) => (both[2 * at + 1] = value));
      let text = "";
      const out = new Uint8Array(both.buffer);
      for (let at = 0; at < out.length; at += 32_768) text += String.fromCharCode(...out.subarray(at, at + 32_768));
      return btoa(text);
    },
    [coded, rate],
  );
  process.stdout.write(Buffer.from(decoded, "base64"));
} finally {
  await browser.close();
}
