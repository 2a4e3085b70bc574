import { Problem } from "./api.js";

/**
 * @typedef {{samples: Int16Array<ArrayBuffer>, rms: number, peak: number}} Block
 * @typedef {{rate: number, stop: () => void}} Recording
 */

/** Messages for microphone errors, by the name of the error. @type {Record<string, string>} */
const REFUSALS = {
  NotAllowedError: "The microphone was refused. Allow it in the browser's settings for this page, or choose a file.",
  NotFoundError: "No microphone was found. Plug one in, or choose a file.",
  NotReadableError: "The microphone is in use by another program. Close that one, or choose a file.",
};

/**
 * Open the microphone; blocks of sound come until `stop` is called.
 *
 * @param {(block: Block) => void} onBlock
 * @param {() => void} onLost the microphone was taken away
 * @returns {Promise<Recording>}
 */
export async function openMicrophone(onBlock, onLost) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Problem("Browsers allow the microphone on HTTPS pages only. Open this page over HTTPS, or choose a file.");
  }
  // Voice processing would change the spectrogram.
  const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  /** @type {?MediaStream} */ let stream = null;
  /** @type {?AudioContext} */ let context = null;
  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    if (context?.state !== "closed") void context?.close();
  };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: untouched });
    context = new AudioContext();
    await context.audioWorklet.addModule(new URL("meter.js", import.meta.url));
    const meter = new AudioWorkletNode(context, "meter");
    meter.port.onmessage = ({ data }) => onBlock(data);
    stream.getAudioTracks()[0].onended = onLost;
    // Some browsers run only nodes that are connected to the output; the meter outputs silence.
    context.createMediaStreamSource(stream).connect(meter).connect(context.destination);
    await context.resume();
  } catch (error) {
    stop();
    const other = `The microphone cannot be opened (${error.name}). Choose a file instead.`;
    throw new Problem(REFUSALS[error.name] ?? other);
  }
  return { rate: context.sampleRate, stop };
}

/**
 * Create a mono 16-bit WAV file, which every server decodes without ffmpeg.
 *
 * @param {Int16Array<ArrayBuffer>[]} blocks
 * @param {number} rate
 */
export function wavFile(blocks, rate) {
  const bytes = blocks.reduce((sum, block) => sum + block.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  // Chunk names are four letters, the first in the most significant byte.
  header.setUint32(0, 0x52494646); // RIFF
  header.setUint32(4, 36 + bytes, true);
  header.setUint32(8, 0x57415645); // WAVE
  header.setUint32(12, 0x666d7420); // fmt
  header.setUint32(16, 16, true); // length of the format chunk
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // one channel
  header.setUint32(24, rate, true);
  header.setUint32(28, rate * 2, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  header.setUint32(36, 0x64617461); // data
  header.setUint32(40, bytes, true);
  return new File([header, ...blocks], "recording.wav", { type: "audio/wav" });
}
