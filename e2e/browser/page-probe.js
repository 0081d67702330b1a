// Runs inside a page: watches a <video> element frame by frame and sample by sample.
//
// `window.probe` is what the test talks to: judge() forgets the past, report() tells what has happened since.

(() => {
  const CODE_BITS = 20;

  /** Reads the drawn frame number: 20 squares across, the inverse below. null where they disagree. */
  function readCode(pixels, width, square) {
    const bright = (row, bit) => {
      const x = bit * square + square / 2;
      const y = row * square + square / 2;
      return pixels[4 * (Math.floor(y) * width + Math.floor(x))] > 128;
    };
    let number = 0;
    for (let bit = 0; bit < CODE_BITS; bit += 1) {
      if (bright(0, bit) === bright(1, bit)) return null;
      number = number * 2 + (bright(0, bit) ? 1 : 0);
    }
    return number;
  }

  function watchFrames(video, record) {
    let canvas;
    let context;
    const onFrame = (now, frame) => {
      const { videoWidth: width, videoHeight: height } = video;
      const square = Math.floor(width / CODE_BITS / 2) * 2;
      if (canvas?.width !== width) {
        canvas = new OffscreenCanvas(width, 2 * square);
        context = canvas.getContext("2d", { willReadFrequently: true });
      }
      context.drawImage(video, 0, 0, width, height);
      const { data } = context.getImageData(0, 0, width, 2 * square);
      record({ number: readCode(data, width, square), mediaTime: frame.mediaTime, now });
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  }

  async function listen(video, workletUrl) {
    const context = new AudioContext({ sampleRate: 48_000, latencyHint: "playback" });
    await context.audioWorklet.addModule(workletUrl);
    const node = new AudioWorkletNode(context, "tone-probe", { numberOfOutputs: 1, outputChannelCount: [2] });
    const source = video.srcObject
      ? context.createMediaStreamSource(video.srcObject)
      : context.createMediaElementSource(video);
    source.connect(node);
    node.connect(context.destination);
    await context.resume();
    const ask = (question) =>
      new Promise((resolve) => {
        node.port.onmessage = ({ data }) => resolve(data);
        node.port.postMessage(question);
      });
    return { judge: () => ask("judge"), report: () => ask("report") };
  }

  window.startProbe = async (video, workletUrl) => {
    const sound = await listen(video, workletUrl);
    let frames = [];
    let events = [];
    let start;
    watchFrames(video, (frame) => frames.push(frame));
    for (const name of ["waiting", "stalled", "pause", "seeking", "ratechange", "error", "ended", "emptied"]) {
      video.addEventListener(name, () => {
        events.push({ name, at: performance.now(), currentTime: video.currentTime, rate: video.playbackRate });
      });
    }
    const state = () => {
      const quality = video.getVideoPlaybackQuality();
      return { now: performance.now(), currentTime: video.currentTime, dropped: quality.droppedVideoFrames };
    };
    window.probe = {
      judge: async () => {
        frames = [];
        events = [];
        await sound.judge();
        start = state();
      },
      report: async () => ({ start, end: state(), frames, events, sound: await sound.report() }),
    };
  };
})();
