/** Samples per message to the page: about twelve messages a second, as many as an eye can follow. */
const BLOCK = 4096;

/** Collects mono 16-bit samples and their level on the audio thread, so that a busy page loses none. */
class Meter extends AudioWorkletProcessor {
  block = new Int16Array(BLOCK);
  filled = 0;
  power = 0;
  peak = 0;

  /** @param {Float32Array[][]} inputs */
  process([channels]) {
    for (let i = 0; i < (channels[0]?.length ?? 0); i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.add(sum / channels.length);
    }
    return true;
  }

  /** @param {number} sample */
  add(sample) {
    this.power += sample * sample;
    this.peak = Math.max(this.peak, Math.abs(sample));
    this.block[this.filled++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
    if (this.filled < BLOCK) return;
    const samples = this.block;
    this.port.postMessage({ samples, rms: Math.sqrt(this.power / BLOCK), peak: this.peak }, [samples.buffer]);
    this.block = new Int16Array(BLOCK);
    this.filled = this.power = this.peak = 0;
  }
}

registerProcessor("meter", Meter);
