/**
 * @typedef {{label: string, probability: number}} Ranked
 * @typedef {{start: number, decision: ?string, unknown: boolean, score: number, present?: string[],
 *   labels: Ranked[]}} Chunk
 * @typedef {{start: number, end: number, label: ?string, unknown: boolean, probability: ?number,
 *   score: ?number}} Segment
 * @typedef {{file: string, seconds: number, chunks: number, decision: ?string, unknown: boolean, score: number,
 *   threshold: ?number, present?: string[], labels: Ranked[], enrolled?: {name: string, score: number}[], remark?: string,
 *   voices: {label: ?string, unknown: boolean, seconds: number}[], per_chunk: Chunk[], pauses: number[],
 *   segments: Segment[], model: string}} Answer
 * @typedef {{id: string, labels: string[], enrolled?: string[], chunk_seconds: number, step_seconds: number,
 *   threshold: ?number, limits?: {megabytes?: number, seconds?: number}, can_enrol?: boolean,
 *   report?: boolean}} Model
 * @typedef {{name: string, seconds: number, replaced: boolean, advice: string[], remark: ?string}} Enrolled
 * @typedef {{picture: Blob, seconds: number, summary?: string}} Picture Image of a whole clip, and what it spans
 * @typedef {{key: string, signal: AbortSignal, onBusy: (seconds: number, attempt: number) => void}} Asking
 */

/** Maximum number of retries when the server is busy. */
export const TRIES = 5;

/** An error with a message for the user, one sentence. */
export class Problem extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, retryAfter?: number, again?: boolean}} about `again`: a retry may succeed
   */
  constructor(message, { status = 0, retryAfter = NaN, again = false } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
    this.again = again;
  }
}

/** @param {Response} response */
async function problemOf(response) {
  const content = await response.json().catch(() => null);
  const { status } = response;
  const message = content?.detail || content?.title || `The server answered ${status} ${response.statusText}`.trim();
  const retryAfter = parseFloat(response.headers.get("Retry-After") ?? "");
  return new Problem(String(message), { status, retryAfter, again: status >= 500 });
}

/** @param {string} path @param {string} key @param {RequestInit} options */
async function request(path, key, options) {
  const headers = new Headers(key ? { Authorization: `Bearer ${key}` } : {});
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem("The server cannot be reached, or the file has changed since it was chosen.", { again: true });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** @param {number} seconds @param {AbortSignal} signal */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** @param {string} path @param {File} file @param {Asking} asking */
async function send(path, file, { key, signal, onBusy }) {
  for (let attempt = 1; ; attempt++) {
    const body = new FormData();
    body.append("file", file, file.name);
    try {
      return await request(path, key, { method: "POST", body, signal });
    } catch (error) {
      if (error.status !== 503 || attempt > TRIES) throw error;
      const seconds = Math.min(60, Math.max(1, error.retryAfter || 2));
      onBusy(seconds, attempt);
      await pause(seconds, signal);
    }
  }
}

/** Enrol a speaker from a recording. @param {string} name @param {File} file @param {Asking} asking @returns {Promise<Enrolled>} */
export async function enrol(name, file, asking) {
  return (await send(`v1/enrolled?name=${encodeURIComponent(name)}`, file, asking)).json();
}

/** @param {string} name @param {string} key */
export async function forget(name, key) {
  await request(`v1/enrolled?name=${encodeURIComponent(name)}`, key, { method: "DELETE" });
}

/** Fetch the report on the model, a page. @param {string} key */
export async function fetchReport(key) {
  return (await request("v1/report", key, {})).text();
}

/** @param {string} key @returns {Promise<Model>} */
export async function fetchModel(key) {
  return (await request("v1/model", key, {})).json();
}

/** @param {File} file @param {Asking} asking @returns {Promise<Answer>} */
export async function classify(file, asking) {
  return (await send("v1/classify?top_k=5", file, asking)).json();
}

/**
 * Fetch the spectrogram of the whole clip.
 *
 * @param {File} file
 * @param {Asking} asking
 * @returns {Promise<Picture>}
 */
export async function spectrogram(file, asking) {
  return pictureOf(await send("v1/spectrogram?view=clip", file, asking));
}

/**
 * Fetch the spectrogram of the whole clip with the evidence for its answer in it.
 *
 * @param {File} file
 * @param {Asking} asking
 * @returns {Promise<Picture>}
 */
export async function evidence(file, asking) {
  const response = await send("v1/explain", file, asking);
  const summary = decodeURIComponent(response.headers.get("AudioNet-Evidence") ?? "");
  return { ...(await pictureOf(response)), summary };
}

/** @param {Response} response @returns {Promise<Picture>} */
async function pictureOf(response) {
  return { picture: await response.blob(), seconds: parseFloat(response.headers.get("AudioNet-Seconds") ?? "") };
}
