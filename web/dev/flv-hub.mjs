// One live FLV stream for many viewers: reads what ffmpeg writes, keeps the headers and the newest group of pictures.
import { spawn } from "node:child_process";

const AUDIO = 8;
const VIDEO = 9;

/** Whole FLV tags from chunks of any size. */
class TagReader {
  #rest = Buffer.alloc(0);
  #headerSeen = false;

  push(chunk) {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const tags = [];
    if (!this.#headerSeen && this.#rest.length >= 13) {
      this.#rest = this.#rest.subarray(13);
      this.#headerSeen = true;
    }
    while (this.#headerSeen && this.#rest.length >= 11) {
      const size = 11 + this.#rest.readUIntBE(1, 3) + 4;
      if (this.#rest.length < size) break;
      tags.push(Buffer.from(this.#rest.subarray(0, size)));
      this.#rest = this.#rest.subarray(size);
    }
    return tags;
  }
}

const isConfig = (tag) => (tag[0] === VIDEO || tag[0] === AUDIO) && tag[12] === 0;
const isKeyframe = (tag) => tag[0] === VIDEO && tag[11] >> 4 === 1 && tag[12] === 1;
const HEADER = Buffer.from("464c5601050000000900000000", "hex");

export class FlvHub {
  #process;
  #reader = new TagReader();
  #configs = new Map();
  #gop = [];
  #viewers = new Set();

  /** `args` make ffmpeg write FLV to its standard output. */
  constructor(args) {
    this.#process = spawn("ffmpeg", ["-v", "error", ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#process.stdout.on("data", (chunk) => {
      for (const tag of this.#reader.push(chunk)) this.#take(tag);
    });
  }

  get viewers() {
    return this.#viewers.size;
  }

  /** Calls `write` with bytes until the result is called. */
  join(write) {
    write(HEADER);
    for (const tag of this.#configs.values()) write(tag);
    for (const tag of this.#gop) write(tag);
    this.#viewers.add(write);
    return () => this.#viewers.delete(write);
  }

  stop() {
    this.#process.kill();
  }

  #take(tag) {
    if (isConfig(tag)) {
      this.#configs.set(tag[0], tag);
    } else if (tag[0] === AUDIO || tag[0] === VIDEO) {
      if (isKeyframe(tag)) this.#gop = [];
      this.#gop.push(tag);
    }
    for (const write of this.#viewers) write(tag);
  }
}
