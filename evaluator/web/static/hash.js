/* A worker: the SHA-256 of a file, piece by piece, so that one of any size fits. */
import { sha256 } from "./vendor/noble-hashes/sha2.js";

const PIECE = 8 * 2 ** 20;

onmessage = async ({ data: file }) => {
  try {
    const digest = sha256.create();
    for (let start = 0; start < file.size; start += PIECE) {
      digest.update(new Uint8Array(await file.slice(start, start + PIECE).arrayBuffer()));
      postMessage({ done: Math.min(file.size, start + PIECE) });
    }
    postMessage({ digest: [...digest.digest()].map(byte => byte.toString(16).padStart(2, "0")).join("") });
  } catch (error) {
    postMessage({ error: String(error) });
  }
};
